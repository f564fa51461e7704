"""What must hold between our pods and the examples of Kafka, PostgreSQL, Valkey, KEDA and Prometheus."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from libs.common.events.access import PRINCIPALS
from libs.common.events.topics import TOPICS
from libs.common.kafka.topology import Topology
from services.inbox.topology import TOPOLOGY as INBOX
from services.ingest.topology import TOPOLOGY as INGEST
from services.router.topology import TOPOLOGY as ROUTER
from services.sms_bridge.topology import TOPOLOGY as SMS_BRIDGE
from services.whatsapp_sender.topology import TOPOLOGY as WHATSAPP_SENDER
from tests.support.kafka_users import kafka_users
from tests.support.manifests.build import ROOT, Document, containers_of
from tests.support.manifests.index import Documents, nested, title
from tests.support.manifests.pods import settings_of, variables_of

PARTITIONS = {topic.name: topic.partitions for topic in TOPICS}
_TOPOLOGIES: Mapping[str, Topology[Any]] = {
    "transom-ingest-worker": INGEST,
    "transom-router": ROUTER,
    "transom-whatsapp-sender": WHATSAPP_SENDER,
    "transom-sms-bridge": SMS_BRIDGE,
    "transom-inbox": INBOX,
}
_POOL, _POOLS_OF_INBOX, _PODS = 8, 2, 3
_PLACEHOLDER = "CHANGE-ME"
_PUBLIC = {"transom-keda"}  # its words are no secrets


def faults(documents: Documents) -> Iterator[str]:
    yield from _kafka(documents)
    yield from _users(documents)
    yield from _scaling(documents)
    yield from _postgres(documents)
    yield from _valkey(documents)
    yield from _monitor(documents)
    yield from _images(documents)
    yield from _secrets(documents)


def _kafka(documents: Documents) -> Iterator[str]:
    (cluster,) = documents.of("Kafka")
    name, kafka = cluster["metadata"]["name"], cluster["spec"]["kafka"]
    pools = {pool["metadata"]["name"]: pool for pool in documents.of("KafkaNodePool")}
    if any(pool["metadata"]["labels"].get("strimzi.io/cluster") != name for pool in pools.values()):
        yield f"a KafkaNodePool is of another cluster than {name}"
    brokers = sum(pool["spec"]["replicas"] for pool in pools.values() if "broker" in pool["spec"]["roles"])
    config = kafka["config"]
    safe = {"min.insync.replicas": 2, "default.replication.factor": 3, "offsets.topic.replication.factor": 3}
    for key, value in safe.items():
        if brokers < 3 or config.get(key) != value:
            yield f"{title(cluster)}: {key} must be {value} on three brokers or more"
    largest = max(topic.dlq.max_record_bytes for topic in TOPICS)
    if config.get("message.max.bytes", 0) < largest or config.get("auto.create.topics.enable") is not False:
        yield f"{title(cluster)}: it must take records of {largest} bytes, and make no topic by itself"
    (listener,) = kafka["listeners"]
    settings = documents.keys_of_config("transom-kafka")
    wanted = {
        "TRANSOM_KAFKA_BOOTSTRAP": f"{name}-kafka-bootstrap:{listener['port']}",
        "TRANSOM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL" if listener["tls"] else "SASL_PLAINTEXT",
        "TRANSOM_KAFKA_SASL_MECHANISM": listener["authentication"]["type"].upper(),
    }
    for key, value in wanted.items():
        if settings.get(key) != value:
            yield f"ConfigMap transom-kafka: {key} is {settings.get(key)}, and {title(cluster)} says {value}"
    if kafka.get("authorization") != {"type": "simple"}:
        yield f"{title(cluster)} asks for no rights"


def _users(documents: Documents) -> Iterator[str]:
    """Users have the declared rights, and each pod is the user whose rights its service has."""
    if documents.of("KafkaUser") != kafka_users():
        yield "the KafkaUsers are not those of `transom topics --acls`: python -m tests.support.kafka_users"
    services = {f"transom-{one.name}" for one in PRINCIPALS}
    for document in documents.ours():
        if (user := variables_of(documents, document).get("TRANSOM_KAFKA_SASL_USERNAME")) is None:
            continue
        component = document["metadata"]["name"].removeprefix("transom-")
        wanted = {"edge": "ingest-edge", "topics": "operator"}.get(component, component)
        if user != f"transom-{wanted}" or user not in services:
            yield f"{title(document)} is the user {user}, and must be transom-{wanted}"
        mounted = [one["secret"]["name"] for sources in nested(document, "sources") for one in sources]
        if user not in mounted:
            yield f"{title(document)} has no password of {user}"


def _scaling(documents: Documents) -> Iterator[str]:
    told: set[tuple[str, str, str]] = set()
    for scaled in documents.of("ScaledObject"):
        target = scaled["spec"]["scaleTargetRef"]
        workload = documents.named(target["kind"], target["name"])
        if workload is None:
            yield f"{title(scaled)}: there is no {target['kind']} {target['name']}"
        elif "replicas" in workload["spec"]:
            yield f"{title(scaled)}: {title(workload)} names its replicas, and each apply would undo the scaling"
        for trigger in scaled["spec"]["triggers"]:
            asked = trigger["metadata"]
            told.add((target["name"], asked["consumerGroup"], asked["topic"]))
            yield from (f"{title(scaled)}: {fault}" for fault in _trigger(documents, scaled, trigger))
    read = {
        (name, f"{topology.service}.{one.topic.name}", one.topic.name)
        for name, topology in _TOPOLOGIES.items()
        for one in topology.subscribers
    }
    if documents.of("ScaledObject") and told != read:
        yield f"groups are scaled that do not read, or read and are not scaled: {sorted(told ^ read)}"
    yield from _scaler(documents)


def _trigger(documents: Documents, scaled: Document, trigger: Mapping[str, Any]) -> Iterator[str]:
    asked = trigger["metadata"]
    if scaled["spec"]["maxReplicaCount"] != PARTITIONS.get(asked["topic"]):
        yield f"maxReplicaCount must be the partitions of {asked['topic']}"
    if documents.named("TriggerAuthentication", trigger["authenticationRef"]["name"]) is None:
        yield f"there is no TriggerAuthentication {trigger['authenticationRef']['name']}"
    host, _, port = documents.keys_of_config("transom-kafka").get("TRANSOM_KAFKA_BOOTSTRAP", "").partition(":")
    if asked["bootstrapServers"] != f"{host}.transom.svc:{port}":
        yield f"the brokers are not at {asked['bootstrapServers']}"
    if int(asked["lagThreshold"]) < 1:
        yield f"a lag of {asked['lagThreshold']} is none"


def _scaler(documents: Documents) -> Iterator[str]:
    """What KEDA signs in with."""
    for authentication in documents.of("TriggerAuthentication"):
        for one in authentication["spec"]["secretTargetRef"]:
            if one["key"] not in (documents.keys_of_secret(one["name"]) or ()):
                yield f"{title(authentication)}: nobody makes {one['key']} of the Secret {one['name']}"
    secret = documents.named("Secret", "transom-keda")
    if secret is not None and documents.named("KafkaUser", secret["stringData"]["username"]) is None:
        yield f"Secret transom-keda: there is no user {secret['stringData']['username']}"


def _postgres(documents: Documents) -> Iterator[str]:
    (cluster,) = documents.of("Cluster")
    spec, name = cluster["spec"], cluster["metadata"]["name"]
    secret = documents.named("Secret", "transom-postgres") or {"stringData": {}}
    owner = spec["bootstrap"]["initdb"]
    roles = {owner["owner"]: owner["secret"]["name"]}
    roles |= {role["name"]: role["passwordSecret"]["name"] for role in spec["managed"]["roles"]}
    for key, dsn in secret["stringData"].items():
        parts = urlsplit(dsn)
        if (parts.hostname, parts.port, parts.path) != (f"{name}-rw", 5432, f"/{owner['database']}"):
            yield f"Secret transom-postgres: {key} names no database of {title(cluster)}"
        if "sslmode=verify-full" not in parts.query:
            yield f"Secret transom-postgres: {key} checks no certificate"
        known = documents.named("Secret", roles.get(parts.username or "", "")) or {"stringData": {}}
        if known["stringData"] != {"username": parts.username, "password": parts.password}:
            yield f"Secret transom-postgres: {key} is of a user or password that {title(cluster)} does not have"
    if "hostnossl all all all reject" not in spec["postgresql"].get("pg_hba", ()):
        yield f"{title(cluster)} lets users in without TLS"
    if not spec["imageName"].endswith(":18") or spec["instances"] < _PODS:
        yield f"{title(cluster)} is to be PostgreSQL 18 on three instances"
    if spec["postgresql"].get("synchronous", {}).get("number", 0) < 1:
        yield f"{title(cluster)} acknowledges commits that one instance alone has"
    most = {scaled["spec"]["scaleTargetRef"]["name"]: scaled["spec"]["maxReplicaCount"] for scaled in
            documents.of("ScaledObject")}  # fmt: skip
    needed = sum(
        most.get(one["metadata"]["name"], one["spec"].get("replicas", 1) + 1)
        * _POOL
        * (_POOLS_OF_INBOX if one["metadata"]["name"] == "transom-inbox" else 1)
        for one in documents.ours()
        if one["kind"] != "Job"
    )
    if int(spec["postgresql"]["parameters"]["max_connections"]) < needed:
        yield f"{title(cluster)}: max_connections must be {needed} or more"


def _valkey(documents: Documents) -> Iterator[str]:
    secret = documents.named("Secret", "transom-valkey") or {"stringData": {"url": "", "users.acl": ""}}
    url = urlsplit(secret["stringData"]["url"])
    service = documents.named("Service", url.hostname or "")
    if url.scheme != "rediss" or service is None or service["spec"]["ports"][0]["port"] != url.port:
        yield "Secret transom-valkey: url is no address of TLS of a Service"
    if f"user {url.username} on >{url.password} " not in secret["stringData"]["users.acl"]:
        yield "Secret transom-valkey: url is of a user or password that users.acl does not have"


def _monitor(documents: Documents) -> Iterator[str]:
    for monitor in documents.of("PodMonitor"):
        hit = [one for one in documents.selected(monitor["spec"]["selector"]) if one["kind"] != "Job"]
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            for one in hit:
                if endpoint["port"] not in {port["name"] for port in containers_of(one)[0].get("ports", ())}:
                    yield f"{title(monitor)}: {title(one)} has no port {endpoint['port']}"
        if len(hit) != sum(1 for one in documents.ours() if one["kind"] != "Job"):
            yield f"{title(monitor)} does not select every service"


def _images(documents: Documents) -> Iterator[str]:
    version = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())["project"]["version"]
    images = {container["image"] for document in documents.ours() for container in containers_of(document)}
    if len(images) != 1 or not images.pop().endswith(f"/transom:{version}"):
        yield f"every pod has one image, of version {version}"
    for document in documents.ours():
        if settings_of(document) is None:
            yield f"{title(document)} runs no command of the image"


def _secrets(documents: Documents) -> Iterator[str]:
    """No real value: what an example holds says that it is to be changed."""
    for secret in documents.of("Secret"):
        values: Mapping[str, Any] = secret.get("stringData", {})
        if "data" in secret:
            yield f"{title(secret)}: data cannot be read by people: use stringData"
        for key, value in values.items():
            if key != "username" and _PLACEHOLDER not in value and secret["metadata"]["name"] not in _PUBLIC:
                yield f"{title(secret)}: {key} looks like a real value"
