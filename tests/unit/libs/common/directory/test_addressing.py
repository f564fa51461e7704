from datetime import UTC, datetime, timedelta

import pytest

from libs.common.directory.addressing import KnownAddresses, WhatsAppAddress, address_of, moved

YEAR_AGO = datetime(2025, 11, 22, 10, tzinfo=UTC)
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
BSUID = "GB.13000000000000000004"


def known(**fields: object) -> KnownAddresses:
    """Somebody who wrote a moment ago, by number and user id."""
    told = {"phone": "+447700900111", "wa_id": "447700900111", "wa_id_at": NOW, "bsuid": BSUID, "bsuid_at": NOW}
    return KnownAddresses(**(told | fields))  # type: ignore[arg-type]  # fields of KnownAddresses


@pytest.mark.parametrize(
    ("who", "address"),
    [
        (known(), WhatsAppAddress("+447700900111", BSUID)),
        (known(bsuid=None), WhatsAppAddress("+447700900111", None)),
        (known(phone=None, wa_id=None), WhatsAppAddress(None, BSUID)),
        (known(wa_id=None, bsuid=None), WhatsAppAddress("+447700900111", None)),
        (KnownAddresses(), WhatsAppAddress(None, None)),
    ],
)
def test_what_is_known_together_goes_out_together(who: KnownAddresses, address: WhatsAppAddress) -> None:
    assert address_of(who) == address


def test_whoever_wrote_by_user_id_since_is_written_to_by_it_alone() -> None:
    assert address_of(known(wa_id_at=YEAR_AGO)) == WhatsAppAddress(None, BSUID)
    assert address_of(known(wa_id_at=None)) == WhatsAppAddress(None, BSUID)
    assert address_of(known(wa_id_at=YEAR_AGO, phone_at=LATER)) == WhatsAppAddress("+447700900111", BSUID)


def test_a_phone_that_the_directory_corrected_is_the_address_from_then_on() -> None:
    corrected = known(phone="+447700900222", phone_at=LATER)
    assert address_of(corrected) == WhatsAppAddress("+447700900222", None)
    assert address_of(corrected._replace(wa_id_at=LATER + timedelta(hours=1))).to == "+447700900111"


OTHER = "+447700900222"


@pytest.mark.parametrize(
    ("confirmed", "number"),
    [
        # the directory's number, which WhatsApp never named
        ({"wa_id": None, "wa_id_at": None}, None),
        ({"wa_id": None, "wa_id_at": None, "phone_at": YEAR_AGO}, None),
        ({"wa_id": None, "wa_id_at": None, "phone_at": NOW}, "+447700900111"),
        # another line, corrected after the customer wrote from the old one
        ({"phone": OTHER, "wa_id_at": YEAR_AGO, "phone_at": YEAR_AGO + timedelta(days=1)}, None),
        ({"phone": OTHER, "wa_id_at": YEAR_AGO, "phone_at": LATER}, OTHER),
        ({"phone": OTHER, "wa_id_at": None, "phone_at": LATER}, OTHER),
        # the customer wrote from the old line again, since the directory named the other
        ({"phone": OTHER, "wa_id_at": LATER, "phone_at": NOW}, "+447700900111"),
        ({"phone": OTHER, "wa_id_at": YEAR_AGO, "phone_at": YEAR_AGO}, None),
        # the same line: whichever confirmation is later
        ({"wa_id_at": None, "phone_at": NOW}, "+447700900111"),
        ({"wa_id_at": NOW, "phone_at": YEAR_AGO}, "+447700900111"),
    ],
)
def test_a_number_goes_out_where_it_was_confirmed_no_earlier_than_the_user_id(
    confirmed: dict[str, object], number: str | None
) -> None:
    address = address_of(known(**confirmed))
    assert address.to == number
    assert number is not None or address.recipient == BSUID


def test_whatsapp_gets_its_own_spelling_of_the_line() -> None:
    ana = known(phone="+5511990000001", phone_at=LATER, wa_id="551190000001", bsuid=None)
    assert address_of(ana) == WhatsAppAddress("+551190000001", None)


def test_the_number_that_an_intent_names_is_the_address() -> None:
    assert address_of(known(), "+447700900111") == WhatsAppAddress("+447700900111", BSUID)
    assert address_of(known(), "+447700900333") == WhatsAppAddress("+447700900333", None)
    assert address_of(known(wa_id_at=YEAR_AGO), "+447700900111").to == "+447700900111"


def test_an_address_moves_when_its_line_is_not_the_customers_any_more() -> None:
    assert not moved(known(), to="+447700900111", recipient=BSUID, named=False)
    assert moved(known(phone="+447700900222", phone_at=LATER), to="+447700900111", recipient=None, named=False)
    assert moved(known(wa_id=None, phone=None), to="+447700900111", recipient=BSUID, named=False)
    assert not moved(known(wa_id=None, phone="+551190000001"), to="+5511990000001", recipient=None, named=False)
    assert moved(known(bsuid="GB.2"), to=None, recipient=BSUID, named=False)
    assert not moved(known(), to=None, recipient=BSUID, named=False)
