"""What is wrong with values of settings although each has its form."""

from collections.abc import Iterable

import pytest

from deploy.cli.doctor import value_rules as rules
from deploy.cli.doctor.findings import Finding

KEY, OTHER = "8f2c1b7e9a045d36c1f0e2b4a6978d53", "1d9e07c4b2f3a586e0c7d914f5b8a362"
GRAPH = "http://127.0.0.1:9000"
KNOWN = ("POSTGRES_DSN", "PORTAL_LINK_KEYS", "REDIS_URL")


def codes(found: Iterable[Finding]) -> list[str]:
    return [one.code for one in found]


def of_secrets(**values: str) -> list[str]:
    return codes(rules.secret_values(values, values.keys()))


def of_addresses(*services: str, **values: str) -> list[str]:
    return codes(rules.addresses(values, services or ("ingest", "portal", "inbox")))


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("POSTGRES_DNS", "x", "Write TRANSOM_POSTGRES_DSN, if that is meant, or remove it."),
        ("POSTGRES_DNS_FILE", "x", "Write TRANSOM_POSTGRES_DSN, if that is meant, or remove it."),
        ("WHEELS", "x", "Remove it."),
    ],
)
def test_a_variable_that_nothing_reads_is_told_with_the_nearest_name(name: str, value: str, hint: str) -> None:
    [one] = rules.unknown_variables({name: value, "REDIS_URL": "x"}, KNOWN, ())
    assert (one.code, one.subject, one.remedy) == ("variable_unknown", f"TRANSOM_{name}", hint)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_DSN", "x"),
        ("POSTGRES_DSN_FILE", "/run/dsn"),
        ("CONFIG", "x"),
        ("TEST_ANYTHING", "x"),
        ("ROUTER_SERVICE_HOST", "10.0.0.1"),
        ("ROUTER_SERVICE_PORT", "80"),
        ("ROUTER_SERVICE_PORT_HTTP", "80"),
        ("ROUTER_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("ROUTER_PORT_80_UDP", "x"),
        ("ROUTER_PORT", "tcp://10.0.0.1:80"),
        ("ROUTER_PORT", "udp://10.0.0.1:80"),
    ],
)
def test_what_is_read_or_comes_from_kubernetes_is_not_unknown(name: str, value: str) -> None:
    assert list(rules.unknown_variables({name: value}, KNOWN, ("CONFIG",))) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"WHATSAPP_TOKEN": KEY, "PORTAL_LINK_KEYS": OTHER}, []),
        ({"WHATSAPP_TOKEN": ""}, []),
        ({"WHATSAPP_TOKEN": "changeme"}, ["secret_placeholder"]),
        ({"PORTAL_LINK_KEYS": f"{KEY}, Change-Me"}, ["secret_placeholder"]),
        ({"PORTAL_LINK_KEYS": f"{KEY},{'ab' * 16}"}, ["key_weak"]),
        ({"JWT_KEYS": "abcdefghi" + "aabbccddeeffgghhi" * 2}, ["key_weak"]),
        ({"JWT_KEYS": "abcdefghijklmnopq" * 2}, ["key_weak"]),
        ({"JWT_KEYS": "abcdefghij" + "jihgfedcba" * 2}, []),
        ({"WHATSAPP_TOKEN": "ab" * 16}, []),
        ({"META_VERIFY_TOKEN": "elevenchars"}, ["token_short"]),
        ({"META_VERIFY_TOKEN": "twelve-chars"}, []),
        ({"META_VERIFY_TOKEN": " elevenchars "}, ["token_short"]),
        ({"META_VERIFY_TOKEN": "token"}, ["secret_placeholder"]),
        ({"WHATSAPP_TOKEN": KEY, "PORTAL_LINK_KEYS": f"{OTHER},{KEY}"}, ["secret_reused"]),
        ({"PORTAL_LINK_KEYS": f"{KEY},{KEY}"}, []),
    ],
)
def test_secrets_that_can_be_guessed_or_serve_twice_are_told(values: dict[str, str], expected: list[str]) -> None:
    assert of_secrets(**values) == expected


def test_variables_with_one_secret_are_named_together_and_once() -> None:
    found = rules.secret_values({"A": f"{KEY},{OTHER}", "B": KEY, "C": f"{OTHER},{KEY}"}, ["A", "B", "C"])
    assert [one.subject for one in found] == ["TRANSOM_A, TRANSOM_B, TRANSOM_C", "TRANSOM_A, TRANSOM_C"]


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("localhost", True),
        ("a.LOCALHOST", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("", False),
        (None, False),
    ],
)
def test_this_machine_is_known_by_its_names_and_addresses(host: str | None, is_here: bool) -> None:  # noqa: FBT001 -- a case
    assert rules.is_this_machine(host) is is_here


def test_an_address_that_cannot_be_read_has_no_host() -> None:
    assert (rules.host_of("http://[::1"), rules.host_of("http://h:80/x")) == (None, "h")


@pytest.mark.parametrize(
    ("services", "values", "expected"),
    [
        (("ingest",), {}, ["public_url_missing"]),
        (("sms-bridge",), {}, ["public_url_missing"]),
        (("router",), {}, []),
        (("ingest",), {"PUBLIC_URL": "https://h.example"}, []),
        (("ingest",), {"PUBLIC_URL": "http://h.example"}, ["public_url_plain"]),
        (("ingest",), {"PUBLIC_URL": "https://localhost"}, ["public_url_plain"]),
        (("ingest",), {"PUBLIC_URL": "http://h.example", "GRAPH_BASE_URL": GRAPH}, []),
        (("portal",), {}, ["portal_url_missing"]),
        (("inbox",), {}, ["inbox_url_missing"]),
        (("portal",), {"PORTAL_URL": "http://p.example"}, []),
        (("portal",), {"PORTAL_URL": "http://127.0.0.1:8080"}, []),
        (("portal",), {"PORTAL_URL": "https://127.0.0.1"}, ["portal_url_local"]),
        (("portal",), {"PORTAL_URL": "https://p.example"}, ["proxies_not_trusted"]),
        (("portal",), {"PORTAL_URL": "https://p.example", "TRUSTED_PROXIES": " 0 "}, ["proxies_not_trusted"]),
        (("portal",), {"PORTAL_URL": "https://p.example", "TRUSTED_PROXIES": "1"}, []),
        (("router",), {"PORTAL_URL": "https://p.example", "INBOX_URL": "https://i.example"}, []),
        (("inbox",), {"PORTAL_URL": "https://p.example", "INBOX_URL": "https://i.example"}, ["proxies_not_trusted"]),
    ],
)
def test_what_own_addresses_lack_is_told_of_the_services_here(
    services: tuple[str, ...], values: dict[str, str], expected: list[str]
) -> None:
    assert of_addresses(*services, **values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"WINDOW_SECONDS": "86400"}, []),
        ({"WINDOW_SECONDS": "3600"}, ["window_not_a_day"]),
        ({"WINDOW_SECONDS": "3600", "GRAPH_BASE_URL": GRAPH}, []),
        ({"WINDOW_SECONDS": "odd"}, []),
        ({"WINDOW_MARGIN_SECONDS": "21600"}, []),
        ({"WINDOW_MARGIN_SECONDS": "21601"}, ["window_margin_wide"]),
        ({"WINDOW_MARGIN_SECONDS": "86400"}, []),
        ({"WINDOW_MARGIN_SECONDS": "odd"}, []),
    ],
)
def test_a_window_beside_metas_own_api_is_metas(values: dict[str, str], expected: list[str]) -> None:
    assert codes(rules.windows(values)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, []),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_BOOTSTRAP": "localhost:1, k:2"},
            ["KAFKA_SECURITY_PROTOCOL"],
        ),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_BOOTSTRAP": "k:2"}, []),
        ({"REDIS_URL": "redis://:word@r:1"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis://r:1"}, []),
        ({"REDIS_URL": "rediss://:word@r:1"}, []),
        ({"REDIS_URL": "redis://:word@127.0.0.1:1"}, []),
    ],
)
def test_a_password_goes_to_no_other_machine_in_clear(values: dict[str, str], expected: list[str]) -> None:
    found = list(rules.passwords_in_clear(values))
    assert [one.subject for one in found] == [f"TRANSOM_{name}" for name in expected]
    assert {one.code for one in found} <= {"password_in_clear"}
