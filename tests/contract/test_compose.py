"""deploy/compose.yaml against the schema of Compose, the settings of the services, and the files that it mounts.

No Docker engine is asked. docs/architecture/containers.md says what was never run.
"""

import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.cli.command import SERVICES, main
from deploy.cli.one_machine import SANDBOX_URL
from deploy.local.compose_secrets import MOUNTED, OF_PROVIDERS
from deploy.local.sandbox.__main__ import options
from libs.common.service import HARD_SECONDS
from libs.common.settings import (
    PREFIX,
    KafkaSettings,
    PortalUrlSettings,
    PostgresSettings,
    ServiceSettings,
    Settings,
    SmsAccountSettings,
)
from libs.common.settings import load as load_settings
from tests.support.compose import FILE, Prepared, UnsetError, composed, interpolated
from tests.support.containers import KAFKA_IMAGE, POSTGRES_IMAGE, VALKEY_IMAGE
from tests.support.sandbox import ROOT

JOBS: Mapping[str, type[Settings]] = {"migrate": PostgresSettings, "topics": KafkaSettings}
OURS = {*SERVICES, *JOBS, "sandbox", "example"}
SERVERS = {"kafka", "postgres", "valkey"}
WATCHING = {"prometheus", "loki", "alloy", "grafana"}
WINDOWS_AT_ONCE = 50_000  # that are open at once
SECRET = "a-secret-of-thirty-two-bytes-and-more"
CHECK = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("compose"))


@pytest.fixture(scope="module")
def services(prepared: Prepared) -> Mapping[str, dict[str, Any]]:
    return dict(prepared.file()["services"])


def settings_of(service: str) -> type[ServiceSettings]:
    module = importlib.import_module(SERVICES[service].replace(".app", ".settings"))
    (found,) = (
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, ServiceSettings) and cls.__module__ == module.__name__
    )
    return found


def test_the_file_is_valid_and_a_broken_one_is_not(tmp_path: Path) -> None:
    assert "--builtin-schema vendor.compose-spec deploy/compose.yaml" in (ROOT / "Makefile").read_text()
    assert subprocess.run([*CHECK, str(FILE)], check=False, capture_output=True).returncode == 0
    broken = tmp_path / "compose.yaml"
    broken.write_text(FILE.read_text().replace("    healthcheck: *health\n", "    healthchecks: *health\n", 1))
    assert subprocess.run([*CHECK, str(broken)], check=False, capture_output=True).returncode != 0


def test_everything_that_belongs_to_the_system_is_in_it(services: Mapping[str, dict[str, Any]]) -> None:
    assert set(services) == OURS | SERVERS | WATCHING
    for name, service in services.items():
        assert service.get("profiles") == (["sandbox"] if name in {"sandbox", "example"} else None), name


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_starts_with_what_it_is_given_and_is_given_nothing_else(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    settings, given = settings_of(service), prepared.environment(service)
    ours = {name.removeprefix(PREFIX).removesuffix("_FILE").lower() for name in given if name.startswith(PREFIX)}
    assert ours - set(settings.model_fields) == set()
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    loaded = load_settings(settings)
    assert loaded.http_host == "0.0.0.0"  # else nothing reaches it in its container
    assert (loaded.http_port, loaded.admin_port) == (8080, "0.0.0.0:9100")


@pytest.mark.parametrize("job", sorted(JOBS))
def test_a_job_is_a_command_with_what_it_needs(prepared: Prepared, job: str) -> None:
    service = prepared.file()["services"][job]
    (command,) = service["command"]
    assert command in main.commands
    ours = {name.removeprefix(PREFIX).removesuffix("_FILE").lower() for name in service["environment"]}
    assert ours - set(JOBS[job].model_fields) == set()
    assert (service["restart"], service["healthcheck"]) == ("no", {"disable": True})


def test_the_example_is_loaded_through_the_sandbox_s_own_loopback(services: Mapping[str, dict[str, Any]]) -> None:
    example = services["example"]
    assert example["network_mode"] == "service:sandbox"
    assert (
        example["environment"][SANDBOX_URL] == f"http://127.0.0.1:{services['sandbox']['environment']['SANDBOX_PORT']}"
    )
    fields = {*PostgresSettings.model_fields, *PortalUrlSettings.model_fields}
    ours = {name.removeprefix(PREFIX).removesuffix("_FILE").lower() for name in example["environment"]}
    assert ours - fields == {SANDBOX_URL.removeprefix(PREFIX).lower()}


def test_the_sandbox_has_every_option_that_it_is_given(services: Mapping[str, dict[str, Any]]) -> None:
    known = {action.dest for action in options()._actions}
    given = services["sandbox"]["environment"]
    assert {name.removeprefix("SANDBOX_").removesuffix("_FILE").lower() for name in given} - known == set()
    assert given["SANDBOX_TLS_FOLDER"] == "/var/lib/transom/authority"


def test_every_provider_is_called_over_tls_and_trusted_by_the_sandbox_s_authority(prepared: Prepared) -> None:
    sandbox = prepared.file()["services"]["sandbox"]["environment"]
    address = f"https://{sandbox['SANDBOX_TLS_NAMES']}:{sandbox['SANDBOX_TLS_PORT']}"
    for service in SERVICES:
        given = prepared.environment(service)
        if called := {name for name in given if name.endswith("_BASE_URL")}:
            assert {given[name] for name in called} == {address}
            assert given["SSL_CERT_FILE"] == f"{sandbox['SANDBOX_TLS_FOLDER']}/authority.pem"
            (trusted,) = (one for one in prepared.file()["services"][service]["volumes"] if "authority" in one)
            assert trusted == f"sandbox-authority:{sandbox['SANDBOX_TLS_FOLDER']}:ro"


def test_without_its_variables_it_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnsetError, match=r"see deploy/\.env"):
        composed({})
    real = Prepared(tmp_path, sandbox=False)
    asked = {line.rsplit("/", 1)[-1].split(":")[0] for line in real.left if line.startswith("write ")}
    assert asked == set(OF_PROVIDERS)
    unset = {line.split()[1] for line in real.left if line.startswith("set ")}
    with pytest.raises(UnsetError):
        composed(real.variables)
    whole = composed(real.variables | dict.fromkeys(unset, "https://given.example"))
    assert whole["services"]["whatsapp-sender"]["environment"]["TRANSOM_GRAPH_BASE_URL"] == "https://graph.facebook.com"
    assert "sandbox" not in str(whole["services"]["sms-bridge"]["environment"])


@pytest.mark.parametrize("service", ["ingest", "sms-bridge"])
def test_the_page_tells_how_an_account_at_vonage_takes_the_place_of_twilio_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    page = (ROOT / "docs/architecture/containers.md").read_text()
    accounts, secrets = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    edited = re.sub(r"^x-sms-accounts:.*?(?=^\n)", accounts, FILE.read_text(), flags=re.DOTALL | re.MULTILINE)
    edited = edited.replace("\nsecrets:\n", f"\n{secrets}")
    given = {"TRANSOM_VONAGE_API_KEY": "key", "TRANSOM_PUBLIC_URL": "https://t.example"}
    given |= {"TRANSOM_PORTAL_URL": "https://p.example", "TRANSOM_INBOX_URL": "https://i.example"}
    edited = re.sub(r"(secrets: \[.*)twilio_auth_tokens", r"\1vonage_api_secret, vonage_signature_secret", edited)
    file = yaml.safe_load(interpolated(edited, given))
    described = file["services"][service]
    assert {"vonage_api_secret", "vonage_signature_secret"} <= set(described["secrets"]) <= set(file["secrets"])
    assert "TWILIO" not in str(described["environment"]).replace("TRANSOM_TWILIO_BASE_URL", "")
    for name in described["secrets"]:
        (tmp_path / name).write_text(f"{SECRET}\n")
    for name, value in described["environment"].items():
        monkeypatch.setenv(name, str(value).replace("/run/secrets", str(tmp_path)))
    settings = load_settings(settings_of(service))
    assert isinstance(settings, SmsAccountSettings)
    account = settings.accounts.of(None, None)
    assert account is not None
    assert (account.key, account.signing) == (("vonage", "key"), (SECRET.encode(),))


def test_every_image_is_pinned_and_the_servers_are_those_of_the_suite(services: Mapping[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+){1,2}", service["image"]), name
    assert services["kafka"]["image"] == KAFKA_IMAGE
    assert services["postgres"]["image"].startswith(f"{POSTGRES_IMAGE}.")
    assert services["valkey"]["image"].startswith(f"{VALKEY_IMAGE}.")


def test_ours_are_one_image_of_this_version(services: Mapping[str, dict[str, Any]]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in OURS:
        assert services[name]["image"] == f"transom:{version}"
        assert services[name]["pull_policy"] == "never"
    (builder,) = [name for name, service in services.items() if "build" in service]  # two of one tag collide
    build = services[builder]["build"]
    assert build["args"] == {"VERSION": version}
    assert ((FILE.parent / build["context"]).resolve() / build["dockerfile"]).is_file()
    for name in SERVICES:
        assert builder in services[name]["depends_on"]


def test_nothing_has_more_rights_or_room_than_it_needs(services: Mapping[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only", False) == (name != "kafka"), name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service), name
        assert "docker.sock" not in str(service), name
        assert service["restart"] == ("no" if name in {*JOBS, "example"} else "unless-stopped"), name


def test_a_stop_waits_longer_than_a_service_drains(prepared: Prepared, services: Mapping[str, dict[str, Any]]) -> None:
    for name in SERVICES:
        patience = int(services[name]["stop_grace_period"].removesuffix("s"))
        assert patience > float(prepared.environment(name)["TRANSOM_DRAIN_SECONDS"]) + HARD_SECONDS


def test_every_service_waits_for_the_servers_and_for_both_jobs(services: Mapping[str, dict[str, Any]]) -> None:
    for name in SERVICES:
        waits = services[name]["depends_on"]
        assert {one: waits[one]["condition"] for one in SERVERS} == dict.fromkeys(SERVERS, "service_healthy")
        assert {one: waits[one]["condition"] for one in JOBS} == dict.fromkeys(JOBS, "service_completed_successfully")
        assert services[name]["healthcheck"]["test"] == ["CMD", "python", "-m", "deploy.liveness"]
        if "sandbox" in waits:  # the profile may be off
            assert waits["sandbox"] == {"condition": "service_healthy", "required": False}
    for name in SERVERS:
        assert services[name]["healthcheck"]["test"], name


def test_ports_are_on_this_machine_alone(services: Mapping[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)
    published_by = {name for name, service in services.items() if "ports" in service}
    assert published_by == {"ingest", "portal", "inbox", "sandbox", "prometheus", "grafana"}
    for name in published_by:
        assert "outside" in services[name]["networks"], f"{name}: an internal network publishes no port"


def test_only_what_needs_the_servers_reaches_them(prepared: Prepared, services: Mapping[str, dict[str, Any]]) -> None:
    assert prepared.file()["networks"]["data"] == {"internal": True}
    reaching = {name for name, service in services.items() if "data" in service.get("networks", [])}
    assert reaching == SERVERS | set(SERVICES) | set(JOBS) | {"sandbox"}


def test_every_file_and_volume_that_is_mounted_is_there(
    services: Mapping[str, dict[str, Any]], prepared: Prepared
) -> None:
    volumes = set(prepared.file()["volumes"])
    used = set()
    for name, source, _target in mounts(services):
        if source.startswith("."):
            assert (FILE.parent / source).exists(), name
            looked_at = [(FILE.parent / one).resolve() for one in MOUNTED]
            assert {*looked_at} & {(FILE.parent / source).resolve(), *(FILE.parent / source).resolve().parents}, name
        elif source.startswith("/"):
            assert source == "/var/lib/docker/containers"
        else:
            used.add(source)
    assert used == volumes


def mounts(services: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            yield name, source, target


def test_servers_keep_their_data_in_volumes_and_wait_for_the_disk(services: Mapping[str, dict[str, Any]]) -> None:
    kept = {(name, target) for name, source, target in mounts(services) if source.endswith("-data")}
    assert {("kafka", "/var/lib/kafka/data"), ("postgres", "/var/lib/postgresql"), ("valkey", "/data")} <= kept
    assert {"fsync=on", "synchronous_commit=on"} <= set(services["postgres"]["command"])
    assert services["kafka"]["environment"]["KAFKA_LOG_FLUSH_INTERVAL_MESSAGES"] == "1"
    assert services["kafka"]["environment"]["KAFKA_LOG_DIRS"] == "/var/lib/kafka/data"


def test_every_secret_is_a_file_of_the_folder_and_goes_to_who_reads_it(
    prepared: Prepared, services: Mapping[str, dict[str, Any]]
) -> None:
    declared = {name: one["file"] for name, one in prepared.file()["secrets"].items()}
    assert declared == {name: f"./secrets/{name}" for name in declared}
    assert {file.name for file in (prepared.folder / "secrets").iterdir()} == set(declared)
    roles = (ROOT / "deploy/compose/postgres-roles.sql").read_text()
    for name, service in services.items():
        read = set(re.findall(r"/run/secrets/(\w+)", f"{service} {roles if name == 'postgres' else ''}"))
        assert read == set(service.get("secrets", [])), name
    text = FILE.read_text()
    for file in (prepared.folder / "secrets").iterdir():
        assert file.read_text().strip() not in text
    for name, service in services.items():
        values = [str(value) for key, value in service.get("environment", {}).items() if not key.endswith("_FILE")]
        assert not any("password" in value.lower() for value in values), name


def test_prometheus_asks_every_service_at_the_port_of_its_metrics(prepared: Prepared) -> None:
    config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    (names,) = job["dns_sd_configs"]
    fixed = {one["labels"]["service"]: one["targets"] for one in job["static_configs"]}
    assert {*names["names"], *fixed} == set(SERVICES)
    for service in SERVICES:
        described = prepared.file()["services"][service]
        assert prepared.environment(service)["TRANSOM_ADMIN_PORT"] == f"0.0.0.0:{names['port']}"
        assert "watch" in described["networks"]
        # the name of a stopped container leads nowhere, so a target that DNS finds is gone instead of down
        assert fixed.get(service) == ([f"{service}:{names['port']}"] if "ports" in described else None)


def test_prometheus_names_the_service_of_either_kind_of_target() -> None:
    (job,) = yaml.safe_load((ROOT / "deploy/compose/prometheus.yaml").read_text())["scrape_configs"]
    (rule,) = job["relabel_configs"]
    assert (rule["source_labels"], rule["target_label"]) == (["__meta_dns_name"], "service")
    assert not re.fullmatch(rule["regex"], "")  # else it empties the label that a fixed target has
    assert re.fullmatch(rule["regex"], "router")


def test_prometheus_takes_its_configuration_with_our_rules(promtool: Path, tmp_path: Path) -> None:
    for file in (ROOT / "deploy/compose/prometheus.yaml", ROOT / "deploy/alerts/transom.rules.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    checked = [str(promtool), "check", "config", str(tmp_path / "prometheus.yaml")]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 rule files found" in done.stdout + done.stderr
    mounted = {source.removeprefix("./"): target for _, source, target in mounts(composed_services())}
    assert mounted["compose/prometheus.yaml"] == "/etc/prometheus/prometheus.yaml"
    assert mounted["alerts/transom.rules.yaml"] == "/etc/prometheus/transom.rules.yaml"


def composed_services() -> Mapping[str, dict[str, Any]]:
    required = dict.fromkeys(re.findall(r"\$\{(\w+):\?", FILE.read_text()), "x")
    return dict(composed(required)["services"])


def test_what_collects_logs_writes_to_loki_and_grafana_reads_both() -> None:
    services = composed_services()
    alloy = (ROOT / "deploy/compose/config.alloy").read_text()
    loki = yaml.safe_load((ROOT / "deploy/compose/loki.yaml").read_text())
    assert f'"http://loki:{loki["server"]["http_listen_port"]}/loki/api/v1/push"' in alloy
    assert re.search(r"max_backoff_retries += 0\b", alloy)  # a line that is given up is missing from each board
    assert loki["limits_config"]["max_query_series"] > WINDOWS_AT_ONCE  # a board counts them, a series each
    sources = yaml.safe_load((ROOT / "deploy/compose/grafana/datasources/transom.yaml").read_text())["datasources"]
    assert {one["url"] for one in sources} == {"http://prometheus:9090", "http://loki:3100"}
    (boards,) = yaml.safe_load((ROOT / "deploy/compose/grafana/dashboards/transom.yaml").read_text())["providers"]
    assert ("grafana", "./dashboards", boards["options"]["path"]) in list(mounts(services))
    for name in OURS:
        assert services[name]["logging"]["options"]["tag"] == "transom"
    assert '{tag!=\\"transom\\"}' in alloy


def test_the_boards_find_their_data_source_and_the_stream_that_alloy_writes() -> None:
    sources = yaml.safe_load((ROOT / "deploy/compose/grafana/datasources/transom.yaml").read_text())["datasources"]
    written = dict(re.findall(r'values = \{(\w+) = "(\w+)"\}', (ROOT / "deploy/compose/config.alloy").read_text()))
    boards = [json.loads(file.read_text()) for file in sorted((ROOT / "deploy/dashboards").glob("*.json"))]
    assert boards
    for variable in (one for board in boards for one in board["templating"]["list"]):
        if variable["type"] == "datasource":
            assert variable["query"] in {source["type"] for source in sources}
        if variable["name"] == "stream":
            ((label, value),) = re.findall(r'(\w+)="(\w+)"', variable["query"])
            assert written[label] == value
