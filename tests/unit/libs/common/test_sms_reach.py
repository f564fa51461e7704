"""Who can get an SMS at all: landlines and impossible numbers are recognised before one is bought."""

import pytest

from libs.common.sms_reach import may_be_personal, takes_sms


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
