"""Parts of concatenated SMS: which belong together, and what they say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.items import InboundSms, SmsPart
from services.ingest.sms import content_of
from services.ingest.sms_parts import OrgSms, joined, plan
from services.ingest.sms_queries import JoinRow

AT = datetime(2026, 11, 26, 10, tzinfo=UTC)


def a_part(number: int, total: int, text: str, *, ref: str = "7", provider_id: str | None = None) -> OrgSms:
    sms = InboundSms(
        provider="vonage",
        account="abcd1234",
        provider_id=provider_id or f"{ref}-{number}",
        to="+447700900001",
        sender="+447700900999",
        text=text,
        received_at=AT + timedelta(seconds=number),
        part=SmsPart(ref, number, total),
    )
    return OrgSms("acme", "GB", sms)


def arrive(*batches: list[OrgSms]) -> tuple[dict[UUID, JoinRow], list[str | None]]:
    """The joins after these batches, and the texts that became complete, each time they did."""
    known: dict[UUID, JoinRow] = {}
    texts: list[str | None] = []
    for batch in batches:
        made = plan(known.values(), batch)
        for join in made.joins:
            known[join.join_id] = join
        for part in made.parts:
            join = known[part.join_id]
            if part not in join.parts:
                known[part.join_id] = replace(join, parts=(*join.parts, part))
        for join_id, join in made.complete.items():
            known[join_id] = replace(join, closed=True)
            texts.append(joined(join, "GB").sms.text)
    return known, texts


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_parts_in_any_order_and_batches_are_one_text(order: tuple[int, ...]) -> None:
    parts = [a_part(1, 3, "Is my "), a_part(2, 3, "Golf "), a_part(3, 3, "ready?")]
    assert arrive(*([parts[n]] for n in order))[1] == ["Is my Golf ready?"]
    assert arrive([parts[n] for n in order])[1] == ["Is my Golf ready?"]


def test_a_repeated_part_changes_nothing_and_repeats_what_was_complete() -> None:
    first, second = a_part(1, 2, "a"), a_part(2, 2, "b")
    joins, texts = arrive([first, first], [second], [second])
    assert texts == ["ab", "ab"]
    assert len(joins) == 1


def test_the_same_reference_again_is_another_message() -> None:
    one = [a_part(1, 2, "a"), a_part(2, 2, "b")]
    two = [a_part(1, 2, "c", provider_id="x"), a_part(2, 2, "d", provider_id="y")]
    assert arrive(one, two)[1] == ["ab", "cd"]
    assert arrive([one[0]], [two[0]], [one[1]], [two[1]])[1] == ["ab", "cd"]


def test_a_part_that_is_missing_leaves_a_gap_and_a_mark() -> None:
    joins, texts = arrive([a_part(1, 4, "Is my "), a_part(4, 4, "ready?")])
    assert texts == []
    (join,) = joins.values()
    late = joined(join, "GB")
    assert late.sms.provider_id == "7-1"
    assert content_of(late) == {
        "kind": "text",
        "text": "Is my […]ready?",
        "incomplete": {"parts": [1, 4], "total": 4},
        "verified": False,
    }


@given(st.data())
def test_messages_of_many_references_are_never_mixed(data: st.DataObject) -> None:
    totals = data.draw(st.lists(st.integers(2, 5), min_size=1, max_size=4))
    parts = [
        a_part(number, total, f"<{ref}.{number}>", ref=str(ref))
        for ref, total in enumerate(totals)
        for number in range(1, total + 1)
    ]
    shuffled = data.draw(st.permutations(parts))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(parts)), max_size=4)) | {0, len(parts)})
    _, texts = arrive(*(list(shuffled[a:b]) for a, b in pairwise(cuts)))
    wanted = ["".join(f"<{ref}.{n}>" for n in range(1, total + 1)) for ref, total in enumerate(totals)]
    assert sorted(filter(None, texts)) == sorted(wanted)
