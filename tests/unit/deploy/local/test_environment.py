"""The environment of one machine's system."""

import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.environment import (
    FILE_NAME,
    SERVICE_PORTS,
    Ports,
    environment,
    kafka_connection,
    of_service,
    remembered,
    wishes,
    without_password,
    write,
)
from deploy.local.servers.local_servers import Servers
from deploy.local.servers.ports import LOOPBACK, free_port, is_free
from deploy.local.up import _oidc_options
from libs.common.errors import ConfigurationError

SERVERS = Servers("127.0.0.1:20001", "postgresql://postgres@127.0.0.1:20003/transom", "redis://127.0.0.1:20004/0")
PORTS = Ports(21004, {name: 21005 + index for index, name in enumerate(SERVICE_PORTS)})


def test_ports_follow_those_of_the_servers_when_a_base_is_given() -> None:
    base = a_free_stretch()
    ports = Ports.choose(base)
    taken = [ports.sandbox, *ports.services.values()]
    assert taken == list(range(base + 4, base + 4 + len(taken)))


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("9100", ["9100", "9101", "9102", "9103", "9104", "9105"]),
        ("0.0.0.0:9100", [f"0.0.0.0:{port}" for port in range(9100, 9106)]),
        ("[::1]:9100", [f"[::1]:{port}" for port in range(9100, 9106)]),
        ("0", ["0"] * 6),
        ("nine", ["nine"] * 6),  # the service itself says what is wrong with it
    ],
)
def test_every_service_has_its_metrics_at_a_port_of_its_own(told: str, found: list[str]) -> None:
    env = {"TRANSOM_ADMIN_PORT": told, "TRANSOM_TOPIC_PREFIX": ""}
    assert [of_service(service, env) for service in SERVICE_PORTS] == [
        env | {"TRANSOM_ADMIN_PORT": port} for port in found
    ]
    assert of_service("router", {"TRANSOM_TOPIC_PREFIX": ""}) == {"TRANSOM_TOPIC_PREFIX": ""}


def test_a_base_whose_ports_are_taken_is_refused_by_name() -> None:
    base = a_free_stretch()
    with socket.create_server((LOOPBACK, base + 6)), pytest.raises(ConfigurationError, match=str(base + 6)):
        Ports.choose(base)


def a_free_stretch() -> int:
    return next(base for _ in range(100) if all(map(is_free, range(base := free_port(), base + 12))))


def test_free_ports_never_meet() -> None:
    ports = Ports.choose(None)
    taken = [ports.sandbox, *ports.services.values()]
    assert len(set(taken)) == len(taken)


def test_every_service_and_the_sandbox_are_told_where_the_others_are() -> None:
    found = environment(SERVERS, PORTS, {}, {})
    assert found["TRANSOM_KAFKA_BOOTSTRAP"] == SERVERS.kafka_bootstrap
    assert found["TRANSOM_GRAPH_BASE_URL"] == found["TRANSOM_TWILIO_BASE_URL"] == found["TRANSOM_SANDBOX_URL"]
    assert found["TRANSOM_PUBLIC_URL"] == found["TRANSOM_INGEST_URL"] == f"http://127.0.0.1:{PORTS.services['ingest']}"


def test_what_is_given_wins_over_what_is_remembered_and_that_over_a_fresh_secret() -> None:
    name = "TRANSOM_WHATSAPP_TOKEN"
    assert environment(SERVERS, PORTS, {name: "given"}, {name: "old"})[name] == "given"
    assert environment(SERVERS, PORTS, {name: ""}, {name: "old"})[name] == "old"
    fresh = {environment(SERVERS, PORTS, {}, {})[name] for _ in range(3)}
    assert len(fresh) == 3


def test_a_provider_of_one_s_own_needs_secrets_of_one_s_own() -> None:
    with pytest.raises(ConfigurationError, match="TRANSOM_WHATSAPP_TOKEN"):
        environment(SERVERS, PORTS, {"TRANSOM_GRAPH_BASE_URL": "https://graph.facebook.com"}, {})


def test_the_sandboxs_people_sign_in_unless_a_real_provider_is_given_with_its_credentials() -> None:
    found = environment(SERVERS, PORTS, {}, {})
    assert (
        found["TRANSOM_OIDC_ISSUER"] == found["TRANSOM_FULL_ACCESS_ISSUERS"] == f"{found['TRANSOM_SANDBOX_URL']}/oidc"
    )
    assert _oidc_options(found)["oidc-redirect"] == f"{found['TRANSOM_INBOX_URL']}/login/callback"
    real = {"TRANSOM_OIDC_ISSUER": "https://login.example"}
    with pytest.raises(ConfigurationError, match="TRANSOM_OIDC_CLIENT_ID"):
        environment(SERVERS, PORTS, real, {})
    credentials = {"TRANSOM_OIDC_CLIENT_ID": "transom", "TRANSOM_OIDC_CLIENT_SECRET": "s3cret"}
    beside = environment(SERVERS, PORTS, real | credentials, {})
    assert _oidc_options(beside) == {}
    assert "TRANSOM_FULL_ACCESS_ISSUERS" not in beside


def test_a_shell_that_sourced_an_earlier_run_wishes_for_what_was_given_then_and_for_nothing_else(
    tmp_path: Path,
) -> None:
    given = {"TRANSOM_WINDOW_SECONDS": "8"}
    earlier = environment(SERVERS, PORTS, given, {})
    write(tmp_path, earlier, given)
    assert wishes(earlier | {"PATH": "/bin", "TRANSOM_LOG_LEVEL": ""}, tmp_path) == given


def test_a_wish_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("given\n")
    named = {"TRANSOM_WHATSAPP_TOKEN_FILE": str(tmp_path / "token")}
    assert wishes(named, tmp_path) == {"TRANSOM_WHATSAPP_TOKEN": "given"}
    with pytest.raises(ConfigurationError, match="TRANSOM_WHATSAPP_TOKEN and TRANSOM_WHATSAPP_TOKEN_FILE"):
        wishes(named | {"TRANSOM_WHATSAPP_TOKEN": "twice"}, tmp_path)


def test_an_address_is_never_remembered() -> None:
    old = {"TRANSOM_KAFKA_BOOTSTRAP": "elsewhere:1", "TRANSOM_PUBLIC_URL": "http://elsewhere"}
    found = environment(SERVERS, PORTS, {}, old)
    assert not set(old.values()) & set(found.values())


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    assert stat.S_IMODE(write(tmp_path, {"TRANSOM_A": "secret"}).stat().st_mode) == 0o600


def test_without_an_earlier_run_nothing_is_remembered(tmp_path: Path) -> None:
    assert remembered(tmp_path) == {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environment")


@given(
    st.dictionaries(
        st.from_regex(r"TRANSOM_[A-Z]{1,8}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029")),
    )
)
def test_what_was_written_is_remembered_word_for_word(folder: Path, found: dict[str, str]) -> None:
    assert write(folder, found) == folder / FILE_NAME
    assert remembered(folder) == found


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://transom:s3cret@127.0.0.1:1/transom", "postgresql://transom:***@127.0.0.1:1/transom"),
        ("postgresql://transom:s3@cret@127.0.0.1:1/transom", "postgresql://transom:***@127.0.0.1:1/transom"),
        ("redis://:s3cret@127.0.0.1:1/0", "redis://:***@127.0.0.1:1/0"),
        ("postgresql://transom@host/db?password=s3cret&x=1", "postgresql://transom@host/db?password=***&x=1"),
        ("postgresql:///db?host=/tmp&Password=s3cret", "postgresql:///db?host=/tmp&Password=***"),
        ("127.0.0.1:9092", "127.0.0.1:9092"),
        ("http://127.0.0.1:21004", "http://127.0.0.1:21004"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert without_password(address) == shown


@pytest.mark.parametrize(
    ("name", "value"), [("KAFKA_BOOTSTRAP", "127.0.0.1:99999"), ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")]
)
def test_a_setting_of_the_brokers_that_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^configuration: TRANSOM_{name}"):
        kafka_connection({"TRANSOM_KAFKA_BOOTSTRAP": "127.0.0.1:9092"} | {f"TRANSOM_{name}": value}, "test")
