"""What a list proves: only the very text is proof, and nothing that may be ours is ever called absent."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.ids import SendKey
from libs.common.sending.outcomes import (
    MENDING,
    Accepted,
    Confirmed,
    Denied,
    Inconclusive,
    NotSent,
    Refused,
    RetryLater,
)
from services.sms_bridge.evidence import SKEW, AbsenceRule, LostSend, resolve
from services.sms_bridge.providers import ListedSms

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GRACE, SETTLING = timedelta(minutes=15), timedelta(minutes=5)
CALLED = NOW - 2 * GRACE
SENDER, TO, ACCOUNT = "+447700900001", "+447700900999", "AC1"
WORDS = "AcmeMotors: Update for you. Portal: tflow.link/"
TEXT = WORDS + "abc12345"
STOPPED = Refused("21610")
OVER = AbsenceRule(NOW, GRACE)

Disguise = Callable[[ListedSms], ListedSms]
DISGUISES: dict[str, Disguise] = {
    "as it is": lambda sms: sms,
    "body masked": lambda sms: replace(sms, text="[Redacted]"),
    "body empty": lambda sms: replace(sms, text=""),
    "body missing": lambda sms: replace(sms, text=None),
    "trial prefix": lambda sms: replace(sms, text=f"Sent from your Twilio trial account - {sms.text}"),
    "other characters": lambda sms: replace(sms, text=str(sms.text).replace(":", "∶")),  # noqa: RUF001 -- the case
    "link shortened": lambda sms: replace(sms, text=str(sms.text).replace("tflow.link/", "twil.io/")),
    "space at its end": lambda sms: replace(sms, text=f"{sms.text} "),
    "cut": lambda sms: replace(sms, text=str(sms.text)[:-3]),
    "recipient masked": lambda sms: replace(sms, to="+44770090XXXX"),
    "recipient missing": lambda sms: replace(sms, to=None),
    "id missing": lambda sms: replace(sms, provider_id=None),
    "date unreadable": lambda sms: replace(sms, created_at=datetime.max.replace(tzinfo=UTC)),
    "provider's clock behind": lambda sms: replace(sms, created_at=sms.created_at - SKEW),
}
PROOF = {"as it is", "date unreadable", "provider's clock behind", "recipient missing"}
"""Under these the text is the very text, between the numbers that were asked for."""


def lost(text: str = TEXT, *, n: int = 1, unique: bool = True, before: int = 0) -> LostSend:
    key: SendKey = ("acme", UUID(int=n), 1)
    return LostSend(
        key=key,
        sender=SENDER,
        to=TO,
        since=CALLED,
        called_at=CALLED,
        is_text=text.__eq__,
        has_words=(lambda seen: seen.startswith(WORDS) and len(seen) == len(TEXT)) if unique else text.__eq__,
        unique=unique,
        before=before,
    )


def listed(text: str | None = TEXT, sid: str | None = "SM1", **changes: Any) -> ListedSms:
    sms = ListedSms(sid, text, CALLED, SENDER, TO)
    return replace(sms, **changes)


def others(of: LostSend) -> st.SearchStrategy[list[ListedSms]]:
    """Records of other senders' making, between any numbers, at any time."""
    return st.lists(
        st.builds(
            ListedSms,
            st.uuids().map(lambda one: f"SM{one.hex}"),
            st.sampled_from(["Your invoice", "", None, "OK", WORDS + "zzzzzzzz", TEXT + "!"]),
            st.sampled_from([CALLED - timedelta(hours=1), CALLED, NOW]),
            st.sampled_from([SENDER, None, "+447700900002"]),
            st.sampled_from([TO, None, "+44770090XXXX", "+447700900555"]),
            st.sampled_from([None, STOPPED, RetryLater("account", MENDING, "21606", fault=True)]),
        ),
        max_size=4,
    ).map(lambda made: [one for one in made if not of.is_text(one.text or "")])


@given(st.sampled_from(sorted(DISGUISES)), st.booleans(), st.data())
def test_a_call_whose_record_is_there_in_whatever_form_is_never_absent(
    disguise: str,
    unique: bool,  # noqa: FBT001 -- drawn
    data: st.DataObject,
) -> None:
    ours = lost(unique=unique)
    record = DISGUISES[disguise](listed())
    around = [one for one in data.draw(others(ours)) if unique or not ours.has_words(one.text or "")]
    at = data.draw(st.integers(0, len(around)))
    seen = resolve([ours], [*around[:at], record, *around[at:]], set(), OVER, account=ACCOUNT)[ours.key]
    if disguise in PROOF:
        assert seen.evidence == Confirmed((Accepted(ACCOUNT, "SM1"),))
        assert seen.record == record
    else:
        assert not isinstance(seen.evidence, NotSent | Denied)


@given(data=st.data())
def test_a_text_that_is_not_the_very_text_is_never_proof(data: st.DataObject) -> None:
    ours = lost("Your Golf is ready.", unique=False)
    seen = resolve([ours], data.draw(others(ours)), set(), OVER, account=ACCOUNT)[ours.key]
    assert isinstance(seen.evidence, NotSent | Inconclusive)


@given(data=st.data())
def test_absent_is_what_nothing_speaks_against_and_no_less(data: st.DataObject) -> None:
    ours = lost("Your Golf is ready.", unique=False)
    records = data.draw(others(ours))
    taken = data.draw(st.sets(st.sampled_from([one.provider_id for one in records if one.provider_id] or ["SM0"])))
    clear = all(
        one.provider_id in taken
        or one.created_at < CALLED - SKEW
        or one.sender == "+447700900002"
        or one.to == "+447700900555"
        for one in records
    )
    seen = resolve([ours], records, taken, OVER, account=ACCOUNT)[ours.key]
    assert isinstance(seen.evidence, NotSent) == clear


@given(st.lists(st.sampled_from(["taken", "refused", "masked"]), max_size=5), st.integers(1, 4))
def test_a_record_is_the_evidence_of_one_send(kinds: list[str], sends: int) -> None:
    same = [lost("OK", n=n, unique=False) for n in range(sends)]
    records = [
        listed(None if kind == "masked" else "OK", f"SM{n}", refusal=STOPPED if kind == "refused" else None)
        for n, kind in enumerate(kinds)
    ]
    seen = resolve(same, records, set(), OVER, account=ACCOUNT)
    assert set(seen) == {one.key for one in same}
    found = [one.record.provider_id for one in seen.values() if one.record is not None]
    assert len(found) == len(set(found))
    assert sum(isinstance(one.evidence, Confirmed) for one in seen.values()) == min(sends, kinds.count("taken"))
    if "masked" in kinds:
        assert not any(isinstance(one.evidence, NotSent | Denied) for one in seen.values())


@pytest.mark.parametrize(
    ("since_call", "settled", "absent"),
    [
        (GRACE - timedelta(seconds=1), None, False),
        (GRACE, None, True),
        (10 * GRACE, timedelta(0), False),
        (10 * GRACE, GRACE - timedelta(seconds=1), False),
        (10 * GRACE, GRACE, True),
        (GRACE, 10 * GRACE, True),
        (10 * GRACE, -SETTLING, False),
    ],
)
def test_silence_counts_from_the_call_and_from_the_end_of_an_outage(
    since_call: timedelta, settled: timedelta | None, *, absent: bool
) -> None:
    ours = replace(lost(), called_at=NOW - since_call)
    silence = AbsenceRule(NOW, GRACE, None if settled is None else NOW - settled)
    seen = resolve([ours], [], set(), silence, account=ACCOUNT)[ours.key]
    assert isinstance(seen.evidence, NotSent if absent else Inconclusive)


def test_a_refused_creation_with_the_very_text_is_the_answer_that_got_lost() -> None:
    for ours in (lost(), lost(unique=False)):
        seen = resolve([ours], [listed(refusal=STOPPED)], set(), OVER, account=ACCOUNT)[ours.key]
        assert seen.evidence == Denied(STOPPED)


def test_a_refused_creation_with_another_text_says_nothing() -> None:
    seen = resolve([lost()], [listed("[Redacted]", refusal=STOPPED)], set(), OVER, account=ACCOUNT)
    assert [one.evidence for one in seen.values()] == [Inconclusive()]


def test_an_earlier_calls_refusal_is_not_the_last_calls() -> None:
    earlier, last = listed(refusal=STOPPED), listed(sid="SM2", refusal=STOPPED)
    plain = lost(unique=False, before=1)
    assert resolve([plain], [earlier], set(), OVER, account=ACCOUNT)[plain.key].evidence == Inconclusive()
    assert resolve([plain], [last, earlier], set(), OVER, account=ACCOUNT)[plain.key].record == last
    bridge = lost(before=1)  # its calls differ by the codes of their links
    other = replace(earlier, text=WORDS + "zzzzzzzz")
    assert resolve([bridge], [other], set(), OVER, account=ACCOUNT)[bridge.key].evidence == Inconclusive()
    assert resolve([bridge], [last, other], set(), OVER, account=ACCOUNT)[bridge.key].record == last


def test_a_key_that_was_taken_away_takes_no_evidence_along() -> None:
    ours = replace(lost(), is_text=lambda _text: False)
    seen = resolve([ours], [listed()], set(), OVER, account=ACCOUNT)[ours.key]
    assert seen.evidence == Confirmed((Accepted(ACCOUNT, "SM1"),))


def test_the_very_text_goes_to_the_call_that_it_is_of() -> None:
    older, newer = lost(WORDS + "zzzzzzzz", n=1), lost(TEXT, n=2)
    seen = resolve([older, newer], [listed()], set(), OVER, account=ACCOUNT)
    assert seen[newer.key].record == listed()
    assert isinstance(seen[older.key].evidence, NotSent)


def test_a_bridge_is_known_by_its_code_where_its_number_is_masked_and_plain_text_is_not() -> None:
    masked = listed(to="+44770090XXXX")
    for ours, proof in ((lost(), Confirmed((Accepted(ACCOUNT, "SM1"),))), (lost(unique=False), Inconclusive())):
        assert resolve([ours], [masked], set(), OVER, account=ACCOUNT)[ours.key].evidence == proof


def test_while_another_call_is_under_way_only_a_text_of_one_call_is_proof() -> None:
    for ours, proof in ((lost(), Confirmed((Accepted(ACCOUNT, "SM1"),))), (lost(unique=False), Inconclusive())):
        assert resolve([ours], [listed()], set(), OVER, account=ACCOUNT, in_flight=True)[ours.key].evidence == proof
        assert resolve([ours], [], set(), OVER, account=ACCOUNT, in_flight=True)[ours.key].evidence == Inconclusive()
