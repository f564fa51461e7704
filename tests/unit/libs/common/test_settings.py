import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from libs.common import settings as module
from libs.common.errors import ConfigurationError
from libs.common.setting_types import secrets_in
from libs.common.settings import (
    ConsumerSettings,
    GraphSettings,
    KafkaSettings,
    MetaWebhookSettings,
    PortalSettings,
    PostgresSettings,
    PublicUrlSettings,
    RedisSettings,
    SendSettings,
    ServiceSettings,
    Settings,
    SmsSettings,
    WindowSettings,
    load,
)

ENV_EXAMPLE = Path(__file__).parents[4] / "deploy" / "env.example"
MIXINS = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if issubclass(cls, Settings)]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for cls in MIXINS:
            for field in cls.model_fields:
                patch.delenv(f"TRANSOM_{field}".upper(), raising=False)
        yield


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> "Environment":
    return Environment(monkeypatch)


class Environment:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(f"TRANSOM_{name}".upper(), value)


def fault_of(settings: type[Settings]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(settings)
    return str(caught.value)


def test_a_missing_variable_is_named(environment: Environment) -> None:
    environment(meta_verify_token="hello")
    assert "TRANSOM_META_APP_SECRETS is required: set it" in fault_of(MetaWebhookSettings)


def test_every_fault_stands_in_one_line(environment: Environment) -> None:
    fault = fault_of(MetaWebhookSettings)
    assert "TRANSOM_META_APP_SECRETS" in fault
    assert "TRANSOM_META_VERIFY_TOKEN" in fault
    assert "\n" not in fault


@pytest.mark.parametrize(
    ("settings", "variables", "named"),
    [
        (WindowSettings, {"window_seconds": "soon-value"}, "TRANSOM_WINDOW_SECONDS"),
        (
            MetaWebhookSettings,
            {"meta_app_secrets": " , ", "meta_verify_token": "secret-value"},
            "TRANSOM_META_APP_SECRETS",
        ),
        (GraphSettings, {"whatsapp_token": "secret-value", "graph_base_url": "ftp-value"}, "TRANSOM_GRAPH_BASE_URL"),
        (ServiceSettings, {"http_port": "90000-value"}, "TRANSOM_HTTP_PORT"),
        (PostgresSettings, {"postgres_dsn": ""}, "TRANSOM_POSTGRES_DSN"),
        (PostgresSettings, {"postgres_pool_size": "0"}, "TRANSOM_POSTGRES_POOL_SIZE"),
        *(
            (settings, {name: length}, f"TRANSOM_{name.upper()}")
            for settings, name in (
                (WindowSettings, "window_doubt_seconds"),
                (SendSettings, "send_settling_seconds"),
                (ServiceSettings, "drain_seconds"),
                (PostgresSettings, "postgres_timeout_seconds"),
            )
            for length in ("inf", "nan", "1e308", "99999999999", "10s")
        ),
        (PostgresSettings, {"postgres_timeout_seconds": "3000000"}, "TRANSOM_POSTGRES_TIMEOUT_SECONDS"),
        *(
            (KafkaSettings, {"topic_prefix": wrong}, "TRANSOM_TOPIC_PREFIX")
            for wrong in ("va lue", "v/", "wert\n", "ä")
        ),
        *(
            (GraphSettings, {"whatsapp_token": wrong}, "TRANSOM_WHATSAPP_TOKEN: must be one word")
            for wrong in ("secret value", "wört", "va\nlue", "va\x01lue")
        ),
        *(
            (KafkaSettings, {"kafka_bootstrap": wrong}, "TRANSOM_KAFKA_BOOTSTRAP: must be host:port")
            for wrong in ("k1:9092, value:65536", "k1:value", "http://value:x", ":9092", "", " , ", "[::1", "k1:0")
        ),
    ],
)
def test_a_wrong_value_is_named_and_never_shown(
    environment: Environment, settings: type[Settings], variables: Mapping[str, str], named: str
) -> None:
    environment(**variables)
    fault = fault_of(settings)
    assert named in fault
    assert "value" not in fault.replace("env.example", "").replace("Value", "").replace("input should be a valid", "")


@pytest.mark.parametrize(
    "url", ["https://h:abc", "https://h:65536", "https://h:0", "https://h:-1", "https://", "https:///x", "https://[::1"]
)
def test_an_address_that_nobody_could_reach_is_refused_at_start(environment: Environment, url: str) -> None:
    environment(public_url=url)
    assert fault_of(PublicUrlSettings).startswith("configuration: TRANSOM_PUBLIC_URL: must name a host")


@pytest.mark.parametrize("url", ["https://h ost", "https://h/ ", "https://h\n", "https://h/a\x01", "https://h/#part"])
def test_an_address_with_blanks_or_a_fragment_is_refused_at_start(environment: Environment, url: str) -> None:
    environment(public_url=url)
    assert fault_of(PublicUrlSettings).startswith("configuration: TRANSOM_PUBLIC_URL: must be an address alone")


def test_a_line_end_behind_a_secret_is_no_part_of_it(environment: Environment) -> None:
    environment(whatsapp_token=" EAAB-1\n", meta_app_secrets="a", meta_verify_token="two words\r\n")
    assert load(GraphSettings).whatsapp_token.get_secret_value() == "EAAB-1"
    assert load(MetaWebhookSettings).meta_verify_token.get_secret_value() == "two words"


@pytest.mark.parametrize("url", ["https://h:8443/", "http://[::1]:80", "https://u:p@hooks.example/base"])
def test_an_address_with_port_and_path_is_taken(environment: Environment, url: str) -> None:
    environment(public_url=url)
    assert load(PublicUrlSettings).public_url == url.rstrip("/")


@pytest.mark.parametrize("margin", ["10", "11"])
def test_a_margin_not_smaller_than_the_window_is_refused(environment: Environment, margin: str) -> None:
    environment(window_seconds="10", window_margin_seconds=margin)
    assert "TRANSOM_WINDOW_MARGIN_SECONDS must be smaller than TRANSOM_WINDOW_SECONDS" in fault_of(WindowSettings)


@pytest.mark.parametrize(("timeout", "lease", "grace"), [("20", "20", "30"), ("10", "30", "30"), ("30", "20", "10")])
def test_timeout_lease_and_grace_must_grow(environment: Environment, timeout: str, lease: str, grace: str) -> None:
    environment(send_timeout_seconds=timeout, send_lease_seconds=lease, send_grace_seconds=grace)
    assert "TRANSOM_SEND_LEASE_SECONDS" in fault_of(SendSettings)


def test_sasl_without_a_password_is_refused(environment: Environment) -> None:
    environment(kafka_security_protocol="SASL_SSL", kafka_sasl_username="transom")
    assert "TRANSOM_KAFKA_SASL_PASSWORD" in fault_of(KafkaSettings)


def test_sasl_reaches_the_connection_and_prints_no_password(environment: Environment) -> None:
    environment(kafka_security_protocol="SASL_SSL", kafka_sasl_username="transom", kafka_sasl_password="hush")
    settings = load(KafkaSettings)
    connection = settings.kafka_connection("transom-router")
    assert (connection.sasl_mechanism, connection.sasl_password, connection.client_id) == (
        "PLAIN",
        "hush",
        "transom-router",
    )
    assert "hush" not in repr(settings) + repr(connection)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"kafka_ssl_cafile": "/ca.crt"}, "TRANSOM_KAFKA_SSL_CAFILE is set, so TRANSOM_KAFKA_SECURITY_PROTOCOL"),
        ({"kafka_ssl_certfile": "/tls.crt"}, "TRANSOM_KAFKA_SSL_CERTFILE is set, so TRANSOM_KAFKA_SECURITY_PROTOCOL"),
        (
            {"kafka_ssl_keyfile": "/tls.key", "kafka_security_protocol": "SSL"},
            "TRANSOM_KAFKA_SSL_CERTFILE is required: set it, because TRANSOM_KAFKA_SSL_KEYFILE is set",
        ),
        (
            {"kafka_sasl_username": "u", "kafka_sasl_password": "secret-value", "kafka_security_protocol": "SSL"},
            "TRANSOM_KAFKA_SASL_USERNAME is set, so TRANSOM_KAFKA_SECURITY_PROTOCOL",
        ),
    ],
)
def test_what_asks_for_tls_or_a_user_is_never_dropped_silently(
    environment: Environment, variables: Mapping[str, str], named: str
) -> None:
    environment(**variables)
    fault = fault_of(KafkaSettings)
    assert named in fault
    assert "secret-value" not in fault


@pytest.mark.parametrize("mode", ["", "&sslmode=prefer", "&sslmode=allow", "&sslmode=disable"])
def test_files_of_tls_need_a_mode_that_checks_them(environment: Environment, mode: str) -> None:
    environment(postgres_dsn=f"postgresql://u:secret-value@db/transom?sslrootcert=/ca.crt{mode}")
    fault = fault_of(PostgresSettings)
    assert "TRANSOM_POSTGRES_DSN names sslrootcert, so its sslmode must be verify-full" in fault
    assert "secret-value" not in fault
    environment(postgres_dsn="postgresql://u:secret-value@db/transom?sslrootcert=/ca.crt&sslmode=verify-full")
    load(PostgresSettings)


def test_parameters_of_tls_need_an_address_of_tls(environment: Environment) -> None:
    environment(redis_url="redis://:secret-value@cache:6379/0?ssl_ca_certs=/ca.crt")
    fault = fault_of(RedisSettings)
    assert "TRANSOM_REDIS_URL has a parameter of TLS (ssl_…), so it must begin with rediss://" in fault
    assert "secret-value" not in fault
    environment(redis_url="rediss://:secret-value@cache:6379/0?ssl_ca_certs=/ca.crt")
    load(RedisSettings)


def test_several_secrets_are_read_in_their_order(environment: Environment) -> None:
    environment(portal_link_keys=f"{'new' * 11}, {'old' * 11},")
    assert secrets_in(load(PortalSettings).portal_link_keys) == (b"new" * 11, b"old" * 11)


def test_settings_are_frozen_and_ignore_what_nobody_asked_for(environment: Environment) -> None:
    environment(no_such_variable="1", dlq_run_limit="7")
    settings = load(ConsumerSettings)
    assert settings.dlq_run_limit == 7
    with pytest.raises(ValueError, match="frozen"):
        settings.dlq_run_limit = 8  # type: ignore[misc] # that it cannot be set is the point


def test_a_trailing_slash_of_an_address_is_dropped(environment: Environment) -> None:
    environment(whatsapp_token="t", graph_base_url="http://localhost:1/")
    assert load(GraphSettings).graph_base_url == "http://localhost:1"


def test_every_variable_of_every_service_is_one_of_these() -> None:
    known = {name for cls in MIXINS for name in cls.model_fields}
    for file in sorted((ENV_EXAMPLE.parents[1] / "services").glob("*/settings.py")):
        service = importlib.import_module(f"services.{file.parent.name}.settings")
        for _, cls in inspect.getmembers(service, inspect.isclass):
            if issubclass(cls, Settings):
                assert set(cls.model_fields) <= known, file


def test_the_example_lists_exactly_the_variables_with_their_defaults() -> None:
    declared = [(f"TRANSOM_{name}".upper(), field) for cls in MIXINS for name, field in cls.model_fields.items()]
    fields = dict(sorted(declared, key=lambda one: one[1].is_required()))  # one service may need what another may lack
    lines = re.findall(r"^(#?)(TRANSOM_\w+)=(.*)$", ENV_EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(name for _, name, _ in lines) == sorted(fields)
    for commented, name, shown in lines:
        field = fields[name]
        assert (commented == "") == field.is_required(), name
        if not field.is_required():
            default = getattr(field.default, "get_secret_value", lambda value=field.default: value)()
            expected = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
            assert shown == expected, name


@pytest.mark.parametrize(
    "url",
    [
        "http://graph.example",
        "http://10.0.0.1:8080",
        "http://127.0.0.1.example",
        "http://127.0.0.1@graph.example",
        "http://localhost.example",
        "http://0.0.0.0",
        "http://[::ffff:8.8.8.8]",
        "http://128.0.0.1",
    ],
)
def test_a_provider_s_address_without_tls_is_taken_on_loopback_alone(environment: Environment, url: str) -> None:
    for settings, name, others in (
        (GraphSettings, "graph_base_url", {"whatsapp_token": "t"}),
        (SmsSettings, "twilio_base_url", {"twilio_account_sid": "AC1", "twilio_auth_tokens": "t"}),
    ):
        environment(**others, **{name: url})
        with pytest.raises(ConfigurationError, match=f"TRANSOM_{name.upper()}.*https://") as refused:
            load(settings)
        assert url not in str(refused.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://localhost:1"])
def test_a_simulated_provider_on_this_machine_needs_no_tls(environment: Environment, url: str) -> None:
    environment(whatsapp_token="t", graph_base_url=url)
    assert load(GraphSettings).graph_base_url == url
