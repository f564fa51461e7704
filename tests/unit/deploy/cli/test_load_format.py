"""The load file: what is right is read as it stands, what is wrong is named by line and field."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deploy.cli.load_format import Loaded, read
from deploy.cli.load_policy import PolicyEntry
from libs.common.errors import ConfigurationError
from libs.common.inbox_policy import read_inbox_policy
from libs.common.sms_policy import read_policy

GOOD = """\
orgs:
  - org_id: acme
    name: AcmeMotors
    sms_number: "+447700900001"
    sms_active: true
    numbers:
      - {phone_number_id: "106400000000001", waba_id: "206400000000001", display_number: "+44 7700 900123"}
    customers:
      - {customer_id: 5f0c1f7e-7c5e-4c0e-9b0a-0d5f6a3b2c1d, name: Kim, phone: "+447700900999", consents: {sms: true, marketing: false}}
    templates:
      - {name: appointment_reminder, language: en_GB, category: UTILITY, parameter_format: NAMED, body: "Hi {{customer_name}}."}
rate_card:
  - {from: 2026-10-01, channel: whatsapp, category: utility, country: GB, currency: GBP, price: "0.0159"}
"""


def loaded(tmp_path: Path, text: str | bytes) -> Loaded:
    path = tmp_path / "garage.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path)


def fault(tmp_path: Path, text: str | bytes) -> str:
    """What is said of a bad file, without the path that begins every line."""
    with pytest.raises(ConfigurationError) as found:
        loaded(tmp_path, text)
    path = str(tmp_path / "garage.yaml")
    lines = str(found.value).splitlines()
    assert all(line.startswith((path, "…")) for line in lines)
    return "\n".join(line.removeprefix(path) for line in lines)


def test_the_contract_s_file_is_read_as_it_stands(tmp_path: Path) -> None:
    content = loaded(tmp_path, GOOD).content
    (org,), (rate,) = content.orgs, content.rate_card
    assert (org.org_id, org.sms_number, org.sms_active) == ("acme", "+447700900001", True)
    assert org.numbers[0].display_number == "+447700900123"
    assert org.customers[0].consents == {"sms": True, "marketing": False}
    assert (org.templates[0].status, org.templates[0].parameter_format) == ("APPROVED", "NAMED")
    assert (rate.from_.isoformat(), rate.price) == ("2026-10-01", Decimal("0.0159"))


def test_the_example_is_read_as_it_stands(tmp_path: Path) -> None:
    content = loaded(tmp_path, Path("examples/garage.yaml").read_bytes()).content
    assert [org.org_id for org in content.orgs] == ["acme"]
    assert [rate.price for rate in content.rate_card] == [Decimal("0.0400")]


def test_an_empty_mapping_holds_nothing_and_is_no_fault(tmp_path: Path) -> None:
    content = loaded(tmp_path, "{}").content
    assert (content.orgs, content.rate_card) == ([], [])


@pytest.mark.parametrize(
    ("found", "instead", "line", "field"),
    [
        ("    sms_active: true", "    sms_activ: true", 5, "orgs[0].sms_activ"),
        ("    sms_active: true", "    sms_active: perhaps", 5, "orgs[0].sms_active"),
        ("    name: AcmeMotors\n", "", 2, "orgs[0].name"),
        ("    sms_active: true", "    policy: {cap: 1234567890123456789012}", 5, "orgs[0].policy"),
        ('sms_number: "+447700900001"', "sms_number: 07700 900001", 4, "orgs[0].sms_number"),
        ('"+44 7700 900123"', '"12"', 7, "orgs[0].numbers[0].display_number"),
        ("5f0c1f7e-7c5e-4c0e-9b0a-0d5f6a3b2c1d", "kim", 9, "orgs[0].customers[0].customer_id"),
        ("{sms: true,", "{smss: true,", 9, "orgs[0].customers[0].consents.smss"),
        ("UTILITY", "USEFUL", 11, "orgs[0].templates[0].category"),
        ("en_GB", "english", 11, "orgs[0].templates[0].language"),
        ("2026-10-01", "soon", 13, "rate_card[0].from"),
        ('"0.0159"', '"-1"', 13, "rate_card[0].price"),
        ("country: GB", "country: Britain", 13, "rate_card[0].country"),
        ("country: GB", "country: UK", 13, "rate_card[0].country: a country of ISO 3166-1 is needed, such as GB or DE"),
        ("currency: GBP", "currency: GPB", 13, "rate_card[0].currency: a currency of ISO 4217 is needed"),
        ("whatsapp, category: utility", "sms, category: bridge", 13, "rate_card[0]: every SMS, a bridge too"),
        ("    sms_active: true", "    country: UK", 5, "orgs[0].country: a country of ISO 3166-1"),
        ("    sms_active: true", "    currency: XGB", 5, "orgs[0].currency: a currency of ISO 4217"),
        ("NAMED,", "NAMED, status: APROVED,", 11, "orgs[0].templates[0].status"),
        ("parameter_format: NAMED, ", "", 11, "orgs[0].templates[0]: POSITIONAL has places such as {{1}}"),
        ("{{customer_name}}", "{{1}}", 11, "orgs[0].templates[0]: NAMED has places such as {{customer_name}}"),
    ],
)
def test_a_fault_is_named_by_line_and_field(tmp_path: Path, found: str, instead: str, line: int, field: str) -> None:
    assert found in GOOD
    assert fault(tmp_path, GOOD.replace(found, instead)).startswith(f":{line}: {field}")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("relaese", "send", "no such field is known here"),
        ("release", "sent", "Input should be 'offer' or 'send', not 'sent'"),
        ("hold_minutes", 0, "Input should be greater than or equal to 1, not 0"),
        ("hold_minutes", 10_081, "Input should be less than or equal to 10080, not 10081"),
        ("escalate_minutes", 4, "Input should be greater than or equal to 5, not 4"),
        ("sms_daily_segments", '"500"', "Input should be a valid integer, not '500'"),
        ("sms_daily_segments", "yes", "Input should be a valid integer, not True"),
        ("sms_hourly_answers", 1001, "Input should be less than or equal to 1000, not 1001"),
        ("sms_countries", "GB", "Input should be a valid list, not 'GB'"),
        ("portal_unread_minutes", 10_081, "Input should be less than or equal to 10080, not 10081"),
        ("portal_button", '"yes"', "Input should be a valid boolean, not 'yes'"),
    ],
)
def test_a_policy_that_no_service_would_follow_is_a_fault(tmp_path: Path, name: str, value: object, told: str) -> None:
    bad = GOOD.replace("    sms_active: true", f"    policy:\n      {name}: {value}")
    assert fault(tmp_path, bad) == f":6: orgs[0].policy.{name}: {told}"


def test_the_country_of_a_policy_is_named_by_its_place(tmp_path: Path) -> None:
    bad = GOOD.replace("    sms_active: true", "    policy: {sms_countries: [GB, UK]}")
    place = ":5: orgs[0].policy.sms_countries[1]: "
    assert fault(tmp_path, bad) == place + "a country of ISO 3166-1 is needed, such as GB or DE, not 'UK'"


POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "sms_countries": st.none()
        | st.lists(st.sampled_from(["GB", "DE", "UK", "gb", 44]), max_size=3)
        | st.just("GB"),
        "release": st.sampled_from(["offer", "send", None, "sent", True]),
    }
    | {
        name: st.none()
        | st.booleans()
        | st.floats(0, 9)
        | st.sampled_from(["30", -1, 0, 1, 4, 5, 1000, 1001, 1440, 1441])
        | st.sampled_from([10_080, 10_081, 1_000_000, 1_000_001])
        for name in ("sms_daily_segments", "sms_hourly_answers", "escalate_minutes", "hold_minutes")
    },
)


def faulty(policy: dict[str, object]) -> set[object]:
    """The fields of the policy that a file may not have so."""
    try:
        PolicyEntry.model_validate(policy)
    except ValidationError as error:
        return {one["loc"][0] for one in error.errors()}
    return set()


@given(POLICIES)
def test_the_file_takes_the_policies_that_the_services_follow(policy: dict[str, object]) -> None:
    _, of_sms = read_policy(policy, country=None, sms_number=None)
    _, of_inbox = read_inbox_policy(policy)
    assert faulty(policy) == {*of_sms, *of_inbox}


def test_every_fault_is_named_not_just_the_first(tmp_path: Path) -> None:
    told = fault(
        tmp_path, GOOD.replace("AcmeMotors", '""').replace("UTILITY", "USEFUL").replace("country: GB", "country: g")
    )
    assert [line.split(":")[1] for line in told.splitlines()] == ["3", "11", "13"]


def test_a_thousand_faults_fit_a_screen(tmp_path: Path) -> None:
    told = fault(tmp_path, "rate_card:\n" + "  - {channel: fax}\n" * 1000)
    assert len(told.splitlines()) < 30
    assert "more" in told.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("orgs: [", 1, "not YAML"),
        ("orgs:\n\t- tab", 2, "not YAML"),
        ("- orgs", 1, "mapping"),
        ("", 1, "mapping"),
        ("orgs: []\norgs: []\n", 2, "twice"),
        ("orgs:\n  - !!python/object/apply:os.system ['true']\n", 2, "not YAML"),
        ("orgs:\n  - !!int one\n", 1, "not YAML"),
        ("orgs: &all\n  - *all\n", 1, "contains itself"),
        ("orgs: " + "[" * 5000 + "]" * 5000, 1, "too deeply"),
        ("rate_card:\n  - from: 2026-13-01\n", 2, "date"),
    ],
)
def test_what_is_not_such_yaml_is_named_by_its_line(tmp_path: Path, text: str, line: int, word: str) -> None:
    told = fault(tmp_path, text)
    assert told.startswith(f":{line}: ")
    assert word in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("+447700900999: Kim Miller\n", ":1: [[redacted]]: Keys should be strings"),  # YAML's number
        ('"+447700900999": Kim Miller\n', ":1: …: no such field is known here"),
        ("Kim Miller: +447700900999\n", ":1: …: no such field is known here"),
        ("smsActive: true\n", ":1: smsActive: no such field is known here"),
        ('"\\e]0;owned\\a": 1\n', ":1: …: no such field is known here"),
        ("orgs: []\nKim Miller: 1\nKim Miller: 2\n", ":3: …: stands twice in the same place"),
        ("? [+447700900999]\n: 1\n", ":1: not YAML: found unhashable key"),
        ("orgs: !!int hunter-two\n", ":1: not YAML: a tag does not fit its value"),
        ("orgs: *EAAaaaaaaaaaaaaaaaaaaaa\n", ":1: not YAML: found undefined alias '[redacted]'"),
    ],
)
def test_of_a_file_of_another_program_nothing_private_is_shown(tmp_path: Path, text: str, told: str) -> None:
    assert fault(tmp_path, text) == told


def test_a_value_of_a_policy_is_shown_without_what_is_private(tmp_path: Path) -> None:
    bad = GOOD.replace("    sms_active: true", '    policy: {release: "+447700900999"}')
    assert fault(tmp_path, bad) == ":5: orgs[0].policy.release: Input should be 'offer' or 'send', not '[redacted]'"


def test_an_alias_stands_for_what_it_names(tmp_path: Path) -> None:
    shared = "orgs:\n  - {org_id: a, name: A, policy: &policy {hold_minutes: 3}}\n  - {org_id: b, name: B, policy: *policy}\n"
    assert [org.policy.hold_minutes for org in loaded(tmp_path, shared).content.orgs] == [3, 3]


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_that_multiply_are_refused_by_the_line_that_is_too_much(tmp_path: Path, form: str) -> None:
    """Each line stands for nine times the one before: nine to the seventh are five million entries."""
    lines = ["orgs: []", "x0: &x0 {a: 1}"]
    lines += [f"x{n}: &x{n} {form.format(', '.join([f'*x{n - 1}'] * 9))}" for n in range(1, 8)]
    assert fault(tmp_path, "\n".join(lines)) == ":8: aliases repeat more than 1,000,000 entries here"


def test_a_file_that_is_not_text_is_named_with_the_byte(tmp_path: Path) -> None:
    assert "UTF-8" in fault(tmp_path, b"orgs: \xff")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("twice", "field"),
    [
        (
            '      - {phone_number_id: "106400000000001", waba_id: "206400000000001", display_number: "+447700900124"}',
            "phone_number_id",
        ),
        ("      - {name: appointment_reminder, language: en_GB, category: UTILITY, body: Hi}", "name"),
        ("      - {customer_id: 5f0c1f7e-7c5e-4c0e-9b0a-0d5f6a3b2c1d}", "customer_id"),
    ],
)
def test_the_same_thing_twice_is_a_fault_that_names_the_first(tmp_path: Path, twice: str, field: str) -> None:
    lines = GOOD.splitlines()
    at = next(
        index
        for index, line in enumerate(lines)
        if line.startswith("      - {" + twice.split("{")[1].split(":", maxsplit=1)[0])
    )
    told = fault(tmp_path, "\n".join([*lines[: at + 1], twice, *lines[at + 1 :]]))
    assert told.startswith(f":{at + 2}: ")
    assert f"[1].{field}: " in told
    assert f"line {at + 1}" in told


def test_two_garages_of_one_waba_have_a_template_each(tmp_path: Path) -> None:
    garage = (
        "  - org_id: {0}\n    name: {0}\n"
        '    numbers: [{{phone_number_id: "{1}", waba_id: "99999", display_number: "+447700900123"}}]\n'
        "    templates: [{{name: hello, language: en, category: UTILITY, body: Hi}}]\n"
    )
    (tmp_path / "shared.yaml").write_text("orgs:\n" + garage.format("one", 11111) + garage.format("two", 22222))
    assert [len(org.templates) for org in read(tmp_path / "shared.yaml").content.orgs] == [1, 1]


def test_templates_without_a_number_belong_to_nobody(tmp_path: Path) -> None:
    lines = [line for line in GOOD.splitlines() if "number" not in line or "sms" in line]
    assert "orgs[0].templates" in fault(tmp_path, "\n".join(lines))
