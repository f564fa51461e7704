"""Who can get an SMS at all: landlines and impossible numbers are recognised before one is bought."""

from datetime import UTC, datetime

import pytest

from libs.common.sms_reach import SmsReach, is_allowed, may_be_personal, obstacle, takes_sms

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "phone",
    [
        "+447700900999",  # for examples: in no range
        "+12025550123",  # a landline or a mobile phone, in North America
        "+541123456789",  # of Argentina without its 9
        "+5491123456789",
        "+5511987654321",
        "+22997123456",  # of Benin before 2024
        "+393123456789",
    ],
)
def test_a_number_that_may_be_a_mobile_phone_takes_sms(phone: str) -> None:
    assert takes_sms(phone)


@pytest.mark.parametrize(
    "phone",
    [
        *("+442071838750", "+33142685300", "+390612345678", "+447", "+4420718387500000", "+1", "+999123456789"),
        # without their area codes: dialled in their areas alone
        *("+447700", "+4479111234", "+15550123", "+3905512", "+5511777"),
    ],
)
def test_a_landline_and_an_impossible_number_do_not(phone: str) -> None:
    assert not takes_sms(phone)


@pytest.mark.parametrize("phone", ["+447012345678", "+447640123456", "+449098790000", "+448001111111", "+443001231234"])
def test_a_number_that_forwards_a_pager_and_a_number_of_a_service_are_no_persons(phone: str) -> None:
    assert not may_be_personal(phone)


@pytest.mark.parametrize("phone", ["+447700900999", "+12025550123", "+447911123456"])
def test_a_mobile_phone_may_be_a_persons(phone: str) -> None:
    assert may_be_personal(phone)


@pytest.mark.parametrize(
    ("phone", "countries", "found"),
    [
        ("+447700900999", ("GB",), None),
        ("+442071838750", ("GB",), "no_phone"),
        ("+447", ("GB",), "no_phone"),
        ("+353851234567", ("GB",), "country_not_allowed"),
        ("+353851234567", ("GB", "IE"), None),
        ("+353851234567", (), "country_not_allowed"),
        ("+442071838750", None, None),  # facts of a release before the rule
    ],
)
def test_an_sms_goes_to_phones_in_the_countries_of_the_policy_alone(
    phone: str, countries: tuple[str, ...] | None, found: str | None
) -> None:
    reach = SmsReach(
        phone=phone,
        no_phone_until=None,
        stopped_until=None,
        allowed=True,
        explicit=False,
        contacted=True,
        number="+447700900001",
        active=True,
        countries=countries,
    )
    assert obstacle(reach, NOW) == found


@pytest.mark.parametrize(
    ("consent", "stopped", "phone", "allowed"),
    [
        (True, None, "+447700900999", True),
        (True, None, None, True),
        (False, None, "+447700900999", False),
        (False, "+447700900999", "+447700900999", False),
        (False, "+541123456789", "+5491123456789", False),  # another spelling of the line
        (False, "+447700900999", "+447700900998", True),  # the customer's number of today
        (False, "+447700900999", None, False),
    ],
)
def test_a_stop_by_sms_holds_for_the_line_that_it_came_from(
    *, consent: bool, stopped: str | None, phone: str | None, allowed: bool
) -> None:
    assert is_allowed(phone, consent=consent, stopped=stopped) is allowed
