from datetime import UTC, datetime, timedelta

import pytest

from libs.common.directory.addressing import Address, Known, address_of, moved

YEAR_AGO = datetime(2025, 11, 22, 10, tzinfo=UTC)
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
BSUID = "GB.13000000000000000004"


def known(**fields: object) -> Known:
    """Somebody who wrote a moment ago, by number and user id."""
    told = {"phone": "+447700900111", "wa_id": "447700900111", "wa_id_at": NOW, "bsuid": BSUID, "bsuid_at": NOW}
    return Known(**(told | fields))  # type: ignore[arg-type]  # fields of Known


@pytest.mark.parametrize(
    ("who", "address"),
    [
        (known(), Address("+447700900111", BSUID)),
        (known(bsuid=None), Address("+447700900111", None)),
        (known(phone=None, wa_id=None), Address(None, BSUID)),
        (known(wa_id=None, bsuid=None), Address("+447700900111", None)),
        (Known(), Address(None, None)),
    ],
)
def test_what_is_known_together_goes_out_together(who: Known, address: Address) -> None:
    assert address_of(who) == address


def test_whoever_wrote_by_user_id_since_is_written_to_by_it_alone() -> None:
    assert address_of(known(wa_id_at=YEAR_AGO)) == Address(None, BSUID)
    assert address_of(known(wa_id_at=None)) == Address(None, BSUID)
    assert address_of(known(wa_id_at=YEAR_AGO, phone_at=LATER)) == Address("+447700900111", BSUID)


def test_a_phone_that_the_directory_corrected_is_the_address_from_then_on() -> None:
    corrected = known(phone="+447700900222", phone_at=LATER)
    assert address_of(corrected) == Address("+447700900222", None)
    assert address_of(corrected._replace(wa_id_at=LATER + timedelta(hours=1))).to == "+447700900111"


def test_whatsapp_gets_its_own_spelling_of_the_line() -> None:
    ana = known(phone="+5511990000001", phone_at=LATER, wa_id="551190000001", bsuid=None)
    assert address_of(ana) == Address("+551190000001", None)


def test_the_number_that_an_intent_names_is_the_address() -> None:
    assert address_of(known(), "+447700900111") == Address("+447700900111", BSUID)
    assert address_of(known(), "+447700900333") == Address("+447700900333", None)
    assert address_of(known(wa_id_at=YEAR_AGO), "+447700900111").to == "+447700900111"


def test_an_address_moves_when_its_line_is_not_the_customers_any_more() -> None:
    assert not moved(known(), to="+447700900111", recipient=BSUID, named=False)
    assert moved(known(phone="+447700900222", phone_at=LATER), to="+447700900111", recipient=None, named=False)
    assert moved(known(wa_id=None, phone=None), to="+447700900111", recipient=BSUID, named=False)
    assert not moved(known(wa_id=None, phone="+551190000001"), to="+5511990000001", recipient=None, named=False)
    assert moved(known(bsuid="GB.2"), to=None, recipient=BSUID, named=False)
    assert not moved(known(), to=None, recipient=BSUID, named=False)
