"""What must hold of each of our pods: its command, its settings, its files, its probes, its end, its rights."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import pytest

from deploy.cli.command import main
from libs.common.errors import ConfigurationError
from libs.common.service import HARD_SECONDS
from libs.common.settings import PREFIX, KafkaSettings, PostgresSettings, ServiceSettings, Settings, load
from libs.common.web import PROBES
from services.inbox.settings import InboxServiceSettings
from services.ingest.settings import IngestSettings
from services.portal.settings import PortalServiceSettings
from services.router.settings import RouterSettings
from services.sms_bridge.settings import SmsBridgeSettings
from services.whatsapp_sender.settings import WhatsappSenderSettings
from tests.support.manifests.build import WORKLOADS, Document, containers_of, labels_of, pod_of
from tests.support.manifests.index import COMPONENT, Documents, title

SETTINGS: Mapping[tuple[str, ...], type[Settings]] = {
    ("run", "ingest"): IngestSettings,
    ("run", "router"): RouterSettings,
    ("run", "whatsapp-sender"): WhatsappSenderSettings,
    ("run", "sms-bridge"): SmsBridgeSettings,
    ("run", "portal"): PortalServiceSettings,
    ("run", "inbox"): InboxServiceSettings,
    ("migrate",): PostgresSettings,
    ("topics",): KafkaSettings,
}
_FILE = "_FILE"
_INSTANCE = f"{PREFIX}INSTANCE"


def settings_of(document: Document) -> type[Settings] | None:
    """The settings that the command of the pod reads."""
    arguments: Sequence[str] = containers_of(document)[0].get("args", ())
    return next((cls for words, cls in SETTINGS.items() if tuple(arguments[: len(words)]) == words), None)


def faults(documents: Documents) -> Iterator[str]:
    for document in documents.ours():
        for fault in (
            *_command(document),
            *_variables(documents, document),
            *_files(documents, document),
            *_probes(document),
            *_end(documents, document),
            *_rights(documents, document),
            *_spread(document),
        ):
            yield f"{title(document)}: {fault}"
    for document in documents.of(*WORKLOADS):
        yield from (f"{title(document)}: {fault}" for fault in _restricted(document))


def _command(document: Document) -> Iterator[str]:
    (container,) = containers_of(document)
    name, *words = container["args"]
    if (command := main.commands.get(name)) is None:
        yield f"there is no command {name}"
        return
    try:
        command.make_context(name, list(words), resilient_parsing=False).close()
    except click.ClickException as error:
        yield f"transom {' '.join(container['args'])}: {error.format_message()}"
    if "command" in container:
        yield "command replaces the image's own entry point"


def variables_of(documents: Documents, document: Document) -> dict[str, str]:
    """The variables of the pod with their values. What no ConfigMap has is left out, as ``_missing`` tells."""
    (container,) = containers_of(document)
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= documents.keys_of_config(source["configMapRef"]["name"])
    for variable in container.get("env", ()):
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        elif (reference := variable["valueFrom"].get("configMapKeyRef")) is not None:
            if (value := documents.keys_of_config(reference["name"]).get(reference["key"])) is not None:
                found[variable["name"]] = value
        else:
            found[variable["name"]] = document["metadata"]["name"] + "-0"
    return found


def _variables(documents: Documents, document: Document) -> Iterator[str]:
    yield from _missing(documents, document)
    if (cls := settings_of(document)) is None:
        yield "its command reads no known settings"
        return
    given = variables_of(documents, document)
    known = {f"{PREFIX}{field}".upper() for field in cls.model_fields}
    yield from (f"{name} is no setting of it" for name in given if not {name, name.removesuffix(_FILE)} & known)
    yield from (f"{name} is no text" for name, value in given.items() if not isinstance(value, str))
    if issubclass(cls, ServiceSettings) and (_INSTANCE in given) != (document["kind"] == "StatefulSet"):
        yield f"{_INSTANCE} belongs to the pods of a StatefulSet, and to no others"
    try:
        _load(cls, given, _contents(documents, document))
    except ConfigurationError as error:
        yield str(error)


def _missing(documents: Documents, document: Document) -> Iterator[str]:
    """ConfigMaps and keys that are named and not there."""
    (container,) = containers_of(document)
    for source in container.get("envFrom", ()):
        if not documents.keys_of_config(source["configMapRef"]["name"]):
            yield f"there is no ConfigMap {source['configMapRef']['name']}"
    for variable in container.get("env", ()):
        reference = variable.get("valueFrom", {}).get("configMapKeyRef")
        if reference is not None and reference["key"] not in documents.keys_of_config(reference["name"]):
            yield f"no ConfigMap {reference['name']} has the key {reference['key']}"


def _load(cls: type[Settings], given: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Load the settings as the service does, with the files at their paths below a folder."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        for path, content in files.items():
            place = Path(folder + path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        for name, value in given.items():
            patch.setenv(name, folder + value if name.endswith(_FILE) and name[: -len(_FILE)] not in given else value)
        load(cls)


def _contents(documents: Documents, document: Document) -> dict[str, str]:
    """The files of the pod. What an operator makes has a content of its own."""
    found: dict[str, str] = {}
    for folder, secret, key, path in mounted(document):
        values = documents.named("Secret", secret) or {}
        found[f"{folder}/{path}"] = values.get("stringData", {}).get(key, "made-by-an-operator")
    return found


def mounted(document: Document) -> Iterator[tuple[str, str, str, str]]:
    """Folder, Secret, key and path of each file that is mounted from a Secret."""
    pod = pod_of(document) or {}
    for container in containers_of(document):
        folders = {one["name"]: one["mountPath"] for one in container.get("volumeMounts", ())}
        for volume in pod.get("volumes", ()):
            for source in volume.get("projected", {}).get("sources", ()):
                for item in source["secret"]["items"]:
                    yield folders.get(volume["name"], "?"), source["secret"]["name"], item["key"], item["path"]


def _files(documents: Documents, document: Document) -> Iterator[str]:
    paths = set()
    for folder, secret, key, path in mounted(document):
        paths.add(f"{folder}/{path}")
        if (keys := documents.keys_of_secret(secret)) is None:
            yield f"nobody makes the Secret {secret}"
        elif key not in keys:
            yield f"the Secret {secret} has no key {key}"
    named = set()
    for name, value in variables_of(documents, document).items():
        if name.endswith((_FILE, "CAFILE")):
            named.add(value)
    for values in _contents(documents, document).values():
        named |= {part.partition("=")[2] for part in values.partition("?")[2].split("&") if "/run/secrets" in part}
    yield from (f"{path} is named and not mounted" for path in sorted(named - paths))
    yield from (f"{path} is mounted and nothing names it" for path in sorted(paths - named))


def _probes(document: Document) -> Iterator[str]:
    (container,) = containers_of(document)
    if document["kind"] == "Job":
        return
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    if ports != {"http": 8080, "metrics": 9090}:
        yield f"it listens on 8080 and 9090, and names {ports}"
    wanted = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, path in wanted.items():
        asked = container.get(probe, {}).get("httpGet", {})
        if asked != {"path": path, "port": "http"} or path not in PROBES:
            yield f"{probe} asks {asked} and not {path} at http"


def _end(documents: Documents, document: Document) -> Iterator[str]:
    if document["kind"] == "Job":
        return
    (container,) = containers_of(document)
    given = {f"{PREFIX}DRAIN_SECONDS": "25", f"{PREFIX}ADMIN_PORT": ""} | variables_of(documents, document)
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = pause + float(given[f"{PREFIX}DRAIN_SECONDS"]) + HARD_SECONDS
    if (pod_of(document) or {}).get("terminationGracePeriodSeconds", 30) <= needed:
        yield f"terminationGracePeriodSeconds must be more than the {needed:g} seconds of a stop"
    if not given[f"{PREFIX}ADMIN_PORT"].endswith(":9090"):
        yield "/metrics is not at the port that is named so"
    if (document["kind"] == "Deployment") != bool(pause):
        yield "who takes requests through a load balancer pauses before it stops, and nobody else"


def _rights(documents: Documents, document: Document) -> Iterator[str]:
    pod, (container,) = pod_of(document) or {}, containers_of(document)
    account = documents.named("ServiceAccount", pod.get("serviceAccountName", ""))
    if account is None:
        yield f"there is no ServiceAccount {pod.get('serviceAccountName')}"
    elif account.get("automountServiceAccountToken") is not False:
        yield "its account's token would be mounted"
    if pod["securityContext"].get("runAsUser") != 10001:
        yield "its user is not the image's"
    for told, holds in {
        "its root is read-only": container["securityContext"].get("readOnlyRootFilesystem") is True,
        "/tmp is writable": any(m["mountPath"] == "/tmp" for m in container.get("volumeMounts", ())),
    }.items():
        if not holds:
            yield f"it does not hold that {told}"


def _restricted(document: Document) -> Iterator[str]:
    """What the standard ``restricted`` for pods asks for, and what else keeps a pod to itself."""
    pod = pod_of(document) or {}
    whole = pod.get("securityContext", {})
    for container in containers_of(document):
        own, memory = container.get("securityContext", {}), container.get("resources", {})
        for told, holds in {
            "automountServiceAccountToken is false": pod.get("automountServiceAccountToken") is False,
            "enableServiceLinks is false": pod.get("enableServiceLinks") is False,
            "it runs as a user that is not root": whole.get("runAsNonRoot") is True and whole.get("runAsUser"),
            "seccomp is RuntimeDefault": whole.get("seccompProfile") == {"type": "RuntimeDefault"},
            "no more privileges": own.get("allowPrivilegeEscalation") is False,
            "it has no capability": own.get("capabilities") == {"drop": ["ALL"]},
            "memory is requested and limited": {"requests", "limits"} <= memory.keys() and "memory" in memory["limits"],
        }.items():
            if not holds:
                yield f"it does not hold that {told}"


def _spread(document: Document) -> Iterator[str]:
    pod, labels = pod_of(document) or {}, labels_of(document)
    if document["kind"] != "Job" and document["spec"]["selector"]["matchLabels"] != labels:
        yield "its selector does not select its pods"
    if COMPONENT not in labels:
        yield f"its pods have no label {COMPONENT}"
    constraints = pod.get("topologySpreadConstraints", ())
    if any(one["labelSelector"]["matchLabels"] != labels for one in constraints):
        yield "it spreads other pods than its own"
    if document["kind"] != "Job" and len(constraints) < 2:
        yield "its pods are not spread over zones and nodes"
