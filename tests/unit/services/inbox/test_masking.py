"""Without the capability no number is shown, in whatever it stands."""

import json
from uuid import uuid4

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inbox.masking import masked_number, masked_text, shown_content

OWN = "+447700900999"


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (OWN, "+44 •••• ••• 999"),
        ("447700900999", "+44 •••• ••• 999"),
        ("+12125550123", "+1 •••• ••• 123"),
        ("12345", "•••• •••"),
        (None, None),
    ],
)
def test_of_a_number_the_country_and_three_digits_are_left(number: str | None, shown: str | None) -> None:
    assert masked_number(number) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Call +447700900999 now",
        "Call 07700 900 999 now",
        "(0) 7700-900.999",
        "wa.me/447700900999",
        "\u0660\u0667\u0667\u0660\u0660\u0669\u0660\u0660\u0669\u0669\u0669",
        "0044 7700 900999",
        "its 900 999 at the end: 7700900999",
        "+1 212 555 0123",
        "+49 (0)30 1234567",
        "02125550123",
        "06.12.34.56.78",
        "06/12/34/56/78",
        "2026-11-26-447700900888",
        "07700·900·888",
        "+44_7700_900888",
        "07700\u200b900\u200b888",
        "07700\u00ad900888",
        "\u2070\u2077\u2077\u2070\u2070\u2079\u2070\u2070\u2078\u2078\u2078",
        "\uff0b45 12 34 56 78",
    ],
)
def test_a_number_in_a_text_is_masked_however_it_is_written(text: str) -> None:
    shown = masked_text(text, [OWN])
    assert "••••" in shown
    assert sum(c.isdigit() for c in shown) < sum(c.isdigit() for c in text)
    assert "7700900" not in "".join(c for c in shown if c.isdigit())


@pytest.mark.parametrize(
    "text",
    [
        "+44,7700,900999",
        "07700, 900, 999 and 2 cars",
        "07700 : 900 : 999",
        "26.11.2026, 07700 900999 2",
        "0'7'7'0'0'9'0'0'9'9'9",
    ],
)
def test_the_customers_own_number_is_masked_whatever_stands_between_its_digits(text: str) -> None:
    assert "7700900" not in "".join(c for c in masked_text(text, [OWN]) if c.isdigit())


@pytest.mark.parametrize(
    "text",
    [
        "Invoice 1234567",
        "26/11/2026 - 28/11/2026",
        "26.11.2026 14.30",
        "10:15, 11:15, 12:15",
        "On 2026-11-26 10:15",
        "26.11.2026 10:15",
        "MOT 26/11/2026 at 9",
        "£284.00 for 4 tyres",
        "AB12 CDE",
    ],
)
def test_dates_prices_and_short_numbers_stay(text: str) -> None:
    assert masked_text(text, [OWN]) == text


def test_a_card_keeps_its_name_alone() -> None:
    cards = [{"name": {"formatted_name": "Bo"}, "phones": [{"phone": "+447700900111"}], "emails": [{"email": "a@b.c"}]}]
    content = {"kind": "contacts", "contacts": cards}
    shown = shown_content(content, contact=False, own=[OWN], target=None)
    assert shown == {"kind": "contacts", "contacts": [{"name": {"formatted_name": "Bo"}}]}
    assert shown_content(content, contact=True, own=[OWN], target=None) == content


def test_a_number_is_masked_as_a_number_of_json_as_a_name_of_a_field_and_as_a_reaction() -> None:
    number = int(OWN)
    content = {"kind": "interactive", "interactive": {"p": number, "q": [float(number)]}, str(number): 1, "n": 12.5}
    shown = shown_content(content, contact=False, own=[OWN], target=None)
    assert "7700900" not in json.dumps(shown)
    assert (shown["kind"], shown["n"]) == ("interactive", 12.5)
    assert shown_content(content, contact=True, own=[OWN], target=None) == content
    reaction = {"kind": "reaction", "message_id": "wamid.HBgM", "emoji": str(number)}
    assert "7700900" not in json.dumps(shown_content(reaction, contact=False, own=[OWN], target=None))


def test_metas_own_object_and_its_ids_are_shown_to_nobody() -> None:
    ours = uuid4()
    reaction = {"kind": "reaction", "message_id": "wamid.HBgM", "emoji": "👍"}
    unknown = {"kind": "unsupported", "type": "system", "raw": {"body": "447700900999", "wa_id": "447700900999"}}
    for contact in (True, False):
        shown = shown_content(reaction, contact=contact, own=[], target=ours)
        assert shown == {"kind": "reaction", "message_id": str(ours), "emoji": "👍"}
        assert shown_content(reaction, contact=contact, own=[], target=None)["message_id"] is None
        assert shown_content(unknown, contact=contact, own=[], target=None) == {"kind": "unsupported", "type": "system"}


_REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
_FORMS = (
    phonenumbers.PhoneNumberFormat.E164,
    phonenumbers.PhoneNumberFormat.INTERNATIONAL,
    phonenumbers.PhoneNumberFormat.RFC3966,
)
_WORDS = st.text(alphabet=st.characters(exclude_categories=("Nd", "Cs")), max_size=20)


@given(
    region=st.sampled_from(_REGIONS),
    form=st.sampled_from(_FORMS),
    field=st.sampled_from(["text", "caption", "filename", "name", "address", "payload"]),
    before=_WORDS,
    after=_WORDS,
)
def test_no_customers_number_is_left_in_any_field(region: str, form: int, field: str, before: str, after: str) -> None:
    number = phonenumbers.example_number(region)
    assert number is not None
    own = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    written = phonenumbers.format_number(number, form).removeprefix("tel:")
    digits = "".join(c for c in own if c.isdigit())
    if len(digits) < 8:  # a number of a few digits is no secret, and looks like any other
        return
    shown = shown_content({"kind": "text", field: f"{before} {written} {after}"}, contact=False, own=[own], target=None)
    left = "".join(c for c in json.dumps(shown, ensure_ascii=False) if c.isdigit())
    assert digits[-7:] not in left
