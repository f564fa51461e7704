"""The composer in words: what a text costs, what a field asks for, what is wrong, why nothing was sent."""

from dataclasses import replace
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import pytest

from libs.common.sms_reach import MOST_SEGMENTS
from libs.common.template_parameters import FaultCode, Place, PlaceKind
from services.inbox.composer_views import Composer, Price, Prices, Refusal
from services.inbox.composing import Situation, offer_of
from services.inbox.drafts import Draft
from services.inbox.html import LANGUAGES
from services.inbox.picker import Choice, Field, picker_of
from tests.unit.services.inbox.composing_builders import a_situation, a_template, expired

ENGLISH, GERMAN = LANGUAGES.of("en-GB"), LANGUAGES.of("de-DE")
GSM, UCS2 = 153, 67
"""Characters of a part of a longer SMS."""


def a_composer(situation: Situation | None = None, text: str = "", **changes: Any) -> Composer:
    found = situation or a_situation()
    return Composer(
        conversation_id=UUID(int=7),
        name=changes.pop("name", "Kim Larsen"),
        org_name="AcmeMotors",
        user_id="u1",
        user_name="Priya",
        token="t",
        form_id="f",
        situation=found,
        offer=offer_of(found),
        picker=picker_of([a_template()], Choice(), {}),
        prices=changes.pop("prices", Prices()),
        may_manage_templates=False,
        draft=changes.pop("draft", Draft(text)),
        **changes,
    )


def a_field(kind: PlaceKind = "text", name: str = "vehicle_model", **changes: Any) -> Field:
    return replace(Field(Place("body", name, kind), ""), **changes)


def test_its_form_and_what_the_browser_keeps_are_of_the_conversation_and_the_person() -> None:
    composer = a_composer()
    assert composer.path == "/inbox/00000000-0000-0000-0000-000000000007"
    assert composer.draft_key == "draft:u1:00000000-0000-0000-0000-000000000007"


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Kim Larsen", "Kim"),
        ("Kim", "Kim"),
        ("  Inês  Duarte", "Inês"),
        ("+44 7700 900123", "+44 7700 900123"),
        ("", ""),
        (" ", " "),
    ],
)
def test_sentences_call_the_customer_by_the_first_name_and_cut_no_number(name: str, first: str) -> None:
    assert a_composer(name=name).first_name == first


@pytest.mark.parametrize(
    ("situation", "wanted", "picks", "is_picking"),
    [
        (a_situation(), False, False, False),
        (a_situation(), True, True, True),
        (expired(obstacle="no_phone", portal="never"), False, True, False),
        (expired(obstacle="no_phone", portal="never"), True, True, False),
    ],
)
def test_the_picker_is_shown_where_no_text_goes_or_it_is_wanted(
    situation: Situation,
    wanted: bool,  # noqa: FBT001 -- a case
    picks: bool,  # noqa: FBT001 -- a case
    is_picking: bool,  # noqa: FBT001 -- a case
) -> None:
    composer = a_composer(situation, draft=Draft(is_picking=wanted))
    assert (composer.picks, composer.is_picking) == (picks, is_picking)


def test_templates_are_offered_to_those_who_have_whatsapp_switched_on() -> None:
    assert a_composer().offers_templates
    assert not a_composer(a_situation(consent=False)).offers_templates


def test_the_channel_is_the_chosen_one_where_it_is_offered_and_else_the_first() -> None:
    assert a_composer(draft=Draft(via="sms")).channel == "sms"
    assert a_composer(draft=Draft(via=None)).channel == "whatsapp"
    assert a_composer(a_situation(obstacle="no_phone"), draft=Draft(via="sms")).channel == "whatsapp"


def test_lengths_are_written_in_the_language() -> None:
    composer = a_composer(text="x" * 1234)
    assert (composer.length(ENGLISH), composer.most(ENGLISH)) == ("1,234", "4,096")
    assert (composer.length(GERMAN), composer.most(GERMAN)) == ("1.234", "4.096")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hello", "1 segment, about £0.0400"),
        ("x" * 2 * GSM, "2 segments, about £0.0800"),
        ("x" * MOST_SEGMENTS * GSM, "3 segments, about £0.1200"),
        ("x" * (MOST_SEGMENTS * GSM + 1), "An SMS has at most 3 segments: shorten the text."),
        ("ш" * (MOST_SEGMENTS * UCS2 + 1), "An SMS has at most 3 segments: shorten the text."),
    ],
)
def test_a_text_costs_its_segments(text: str, shown: str) -> None:
    prices = Prices(sms=Price(Decimal("0.04"), "GBP"))
    assert a_composer(text=text, prices=prices).segments_line(ENGLISH) == shown


def test_segments_without_a_price_are_counted() -> None:
    assert a_composer(text="x" * 2 * GSM).segments_line(ENGLISH) == "2 segments"


def test_a_price_is_of_a_category() -> None:
    price = Price(Decimal("0.0159"), "GBP")
    assert (Prices(templates={"UTILITY": price}).of("UTILITY"), Prices().of("UTILITY")) == (price, None)


def test_every_kind_of_field_has_its_own_label() -> None:
    button = {"url": {"button": "Pay"}}
    labels = {kind: a_composer().label(a_field(kind, **button.get(kind, {})), ENGLISH) for kind in get_args(PlaceKind)}
    assert labels["text"] == labels["quick_reply"] == labels["flow"] == "Vehicle model"
    assert labels["url"] == "Button “Pay”: what its address ends in"
    assert len(set(labels.values())) == len(labels) - 2
    assert a_composer().label(a_field(name="2"), ENGLISH) == "Value 2"


def test_every_fault_of_a_field_says_what_to_write() -> None:
    said = {code: a_composer().fault(a_field(fault=code), ENGLISH) for code in get_args(FaultCode)}
    assert said["missing"] == said["empty"] == "Fill this in: Meta refuses empty values."
    assert said["layout"] == "No line breaks, tabs or more than four spaces in a row."
    assert said["too_long"] == "This is too long."
    assert said["format"] == "An address that begins with https:// is needed here."
    assert a_composer().fault(a_field("location", fault="format"), ENGLISH).startswith("Two numbers are needed here")
    assert a_composer().fault(a_field("location", fault="missing"), ENGLISH) == said["missing"]


def test_a_gap_of_the_preview_has_the_name_of_its_field() -> None:
    picker = picker_of([a_template()], Choice(template="en_GB/decision_needed"), {})
    composer = replace(a_composer(), picker=picker)
    assert composer.field_name("parameters.vehicle", ENGLISH) == "Vehicle"
    assert composer.field_name("parameters.other", ENGLISH) == "…"


def test_why_no_sms_may_go_is_said_where_somebody_would_ask() -> None:
    assert a_composer().why_no_sms(ENGLISH) == ""
    assert a_composer(expired()).why_no_sms(ENGLISH) == ""
    assert "Kim" in a_composer(expired(obstacle="sms_opted_out")).why_no_sms(ENGLISH)


def test_every_refusal_has_a_sentence_of_its_own_in_each_language() -> None:
    assert a_composer().refused(ENGLISH) == ""
    for language in (ENGLISH, GERMAN):
        said = {a_composer(refusal=one).refused(language) for one in get_args(Refusal)}
        assert len(said) == len(get_args(Refusal))
        assert "" not in said
