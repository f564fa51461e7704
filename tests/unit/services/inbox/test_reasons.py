"""Every failure has sentences that an advisor understands, in both languages."""

import re
from gettext import NullTranslations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.pages.languages import Languages
from libs.common.providers import meta
from services.inbox.reasons import OBSTACLES, Failure, explain, obstacle_text

ENGLISH = NullTranslations()
GERMAN = Languages("inbox", Path("services/inbox/locale")).of("de").words

ENDS = (
    *("bridge_sent", "bridge_failed", "bridge_already_sent", "credit_exhausted", "no_phone", "sms_opted_out"),
    *("sms_unavailable", "never_contacted", "country_not_allowed", "spend_cap_reached", "whatsapp_consent_off"),
)
REASONS = (
    *(f"window_expired_{end}" for end in ENDS),
    *(f"whatsapp_unreachable_{end}" for end in ENDS),
    *("intent_expired", "whatsapp_consent_off", "marketing_consent_off", "transactional_consent_off"),
    *("service_reminders_consent_off", "conversation_held", "template_not_approved", "template_parameters"),
    *("unsupported_content", "invalid_intent", "not_permitted", "unknown_conversation", "unknown_outcome"),
    *("window_open", "whatsapp_unreachable", "customer_erased"),
)
CODES = (*map(str, meta.FAULTS), "21610", "30003", "30006", "dlr-9", "7", "99999")


def _text(reason: str | None, code: str | None = None, **more: object) -> str:
    return explain(Failure(reason, code, name="Kim", org="AcmeMotors", **more)).text(ENGLISH)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "code", "sentence"),
    [
        (
            "window_expired_bridge_sent",
            None,
            (
                "Not delivered: the window had closed. We asked Kim by SMS to come back. "
                "The text waits here and is offered again when they write."
            ),
        ),
        (
            "window_expired_bridge_failed",
            "21610",
            "Not delivered: the window had closed. The SMS to Kim did not go through either: they replied STOP.",
        ),
        (
            "window_expired_bridge_failed",
            "dlr-2",
            (
                "Not delivered: the window had closed. "
                "The SMS to Kim did not go through either: the phone is switched off or out of reach."
            ),
        ),
        (
            "window_expired_sms_unavailable",
            None,
            "Not delivered: the window had closed. AcmeMotors has no active SMS number.",
        ),
        (
            "window_expired_never_contacted",
            None,
            "Kim has never written to you. Only a template can start this conversation.",
        ),
        ("window_expired_whatsapp_consent_off", None, "Not sent: Kim has switched WhatsApp off."),
        (
            "whatsapp_unreachable_bridge_sent",
            None,
            "Not delivered: WhatsApp could not reach Kim. We asked by SMS; the text can be read in the portal.",
        ),
        ("provider_refused", "131047", "WhatsApp says the window is closed."),
        ("provider_refused", "131050", "Kim stopped marketing messages in WhatsApp."),
        ("provider_refused", "130403", "You have blocked Kim on WhatsApp. Unblock them there before you write."),
        (
            "provider_refused",
            "131053",
            (
                "WhatsApp did not take this file: it may be too large or of the wrong kind, "
                "or WhatsApp could not fetch it."
            ),
        ),
        (
            "provider_refused",
            "131031",
            (
                "The garage's WhatsApp account needs attention: Meta locked it. "
                "Tell the person who manages the account at Meta, and send the message again once that is mended."
            ),
        ),
        (
            "provider_refused",
            "131045",
            (
                "The garage's WhatsApp account needs attention. "
                "Tell the person who manages the account at Meta, and send the message again once that is mended."
            ),
        ),
        ("provider_refused", "777777", "WhatsApp refused this message."),
        ("a_reason_of_a_later_release", None, "Not delivered."),
        (None, None, "Not delivered."),
    ],
)
def test_a_reason_is_said_in_words(reason: str | None, code: str | None, sentence: str) -> None:
    assert _text(reason, code) == sentence


def test_what_is_known_is_named() -> None:
    held = "The AI stayed silent: Priya has taken over."
    assert _text("conversation_held", user="Priya") == held
    assert _text("window_expired_bridge_already_sent", asked_at="09:10", next_at="tomorrow at 09:10").endswith(
        "Kim was already asked by SMS at 09:10; the next SMS is possible tomorrow at 09:10."
    )
    told = _text("template_not_approved", template="reminder", language="German", template_state="PAUSED")
    assert told == "Not sent: Meta has not approved “reminder” in German (it is PAUSED)."
    told = _text("template_not_approved", template="reminder", language="German", template_state="APPROVED")
    assert told == "Not sent: Meta had not approved “reminder” in German then; now it has."


@pytest.mark.parametrize(
    ("code", "of_template", "of_any"),
    [
        (
            "130472",
            "Meta holds this template back from Kim for a test. Free text works when they write.",
            "Meta did not deliver this: the number of Kim is part of a test.",
        ),
        (
            "131008",
            "The template has changed at Meta; its placeholders no longer fit.",
            "WhatsApp refused this message: something in it is missing.",
        ),
    ],
)
def test_only_a_template_is_called_one(code: str, of_template: str, of_any: str) -> None:
    assert _text("provider_refused", code, template="reminder") == of_template
    assert _text("provider_refused", code) == of_any


def test_a_customer_without_a_name_is_one_within_a_sentence_and_at_its_beginning() -> None:
    asked, stopped = Failure("window_expired_bridge_sent"), Failure("provider_refused", "131050")
    assert "We asked this customer by SMS" in explain(asked).text(ENGLISH)
    assert "Wir haben diese Person per SMS" in explain(asked).text(GERMAN)
    assert explain(stopped).text(ENGLISH) == "This customer stopped marketing messages in WhatsApp."
    assert explain(stopped).text(GERMAN).startswith("Diese Person hat")


def test_an_sms_that_was_asked_for_blames_no_window() -> None:
    assert _text("window_expired_no_phone", channel="sms") == (
        "Not sent by SMS. No SMS is possible: no number on file takes SMS at present."
    )
    assert _text("provider_refused", "30006", channel="sms") == "The SMS did not arrive: this number takes no SMS."
    assert _text("provider_refused", "131047", channel="sms") == "The SMS did not arrive."


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_words_of_its_own_in_german(reason: str) -> None:
    failure = Failure(reason, name="Kim", org="AcmeMotors")
    english, german = explain(failure).text(ENGLISH), explain(failure).text(GERMAN)
    assert english != "Not delivered."
    assert german != english
    assert "%(" not in english + german


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("channel", ["whatsapp", "sms"])
def test_every_code_has_words_in_german(code: str, channel: str) -> None:
    failure = Failure("provider_refused", code, channel=channel, name="Kim")
    assert explain(failure).text(GERMAN) != explain(failure).text(ENGLISH)


@pytest.mark.parametrize("reason", [*OBSTACLES, "one_of_a_later_release"])
def test_every_obstacle_of_an_sms_has_words(reason: str) -> None:
    for words in (ENGLISH, GERMAN):
        text = obstacle_text(reason, words, name=None, org=None)
        assert text.endswith(".")
        assert "%(" not in text


@given(
    reason=st.one_of(st.none(), st.sampled_from([*REASONS, "provider_refused"]), st.text(max_size=60)),
    code=st.one_of(st.none(), st.sampled_from(CODES), st.text(max_size=10)),
    channel=st.sampled_from(["whatsapp", "sms", "portal"]),
    name=st.one_of(st.none(), st.text(max_size=20)),
)
def test_whatever_is_stored_the_sentences_show_no_code(
    reason: str | None, code: str | None, channel: str, name: str | None
) -> None:
    for words in (ENGLISH, GERMAN):
        text = explain(Failure(reason, code, channel=channel, name=name)).text(words)
        shown = text.replace(name, "") if name else text
        assert shown.strip()
        assert re.search(r"[0-9]{2,}|_|%\(", shown) is None
