"""The manifests of deploy/k8s: their shape, and what they name of each other and of the code.

No cluster is asked. Each rule is broken once below, so that none of them holds by itself.
"""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.support import prometheus_rule
from tests.support.kafka_users import FILE, written
from tests.support.manifests import kinds, network, pods, servers
from tests.support.manifests.build import (
    EXAMPLE,
    EXAMPLES,
    JOBS,
    ROOT,
    build,
    containers_of,
    documents_in,
    everything,
    pod_of,
)
from tests.support.manifests.index import Documents


def faults(documents: Documents) -> Iterator[str]:
    for checks in (pods, network, servers):
        yield from checks.faults(documents)


@pytest.fixture(scope="module")
def manifests() -> Documents:
    return Documents(everything())


@pytest.mark.parametrize("release", kinds.RELEASES)
def test_every_document_has_the_shape_of_its_kind(manifests: Documents, release: str) -> None:
    assert [fault for document in manifests.all for fault in kinds.faults(document, release)] == []


def test_what_the_documents_name_of_each_other_and_of_the_code_is_there(manifests: Documents) -> None:
    assert list(faults(manifests)) == []


def test_the_example_as_it_stands_is_whole_without_the_components_that_are_not_asked_for() -> None:
    whole = [build(ROOT / "examples" / name) for name in EXAMPLES] + [build(EXAMPLE / name) for name in JOBS]
    assert list(faults(Documents([*build(EXAMPLE), *(each for part in whole for each in part)]))) == []


def test_no_two_documents_have_one_name(manifests: Documents) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests.all]
    assert len(names) == len(set(names))


def test_every_file_is_part_of_what_is_built() -> None:
    built = set()
    for file in ROOT.rglob("kustomization.yaml"):
        (kustomization,) = documents_in(file)
        built |= {(file.parent / name).resolve() for name in kustomization.get("resources", ())}
    files = {file.resolve() for file in ROOT.rglob("*.yaml") if file.name != "kustomization.yaml"}
    assert files <= built


def test_the_users_of_strimzi_are_as_they_are_written() -> None:
    assert FILE.read_text() == written()


def test_the_alerts_of_the_cluster_are_those_of_the_rules() -> None:
    assert prometheus_rule.FILE.read_text() == prometheus_rule.written()
    (resource,) = documents_in(prometheus_rule.FILE)
    assert resource["spec"] == yaml.safe_load(prometheus_rule.RULES.read_text())


PAGE = ROOT.parents[1] / "docs/architecture/kubernetes.md"
COMMANDS = "".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"deploy/[\w./-]+", COMMANDS))))
def test_a_path_in_the_commands_of_the_page_is_there(path: str) -> None:
    """``overlays/mine`` is the reader's copy of the example."""
    assert (ROOT.parents[1] / path.replace("overlays/mine", "overlays/example")).exists()


def test_what_the_commands_of_the_page_name_is_there(manifests: Documents) -> None:
    kinds_ = {"deployment": "Deployment", "statefulset": "StatefulSet", "job": "Job", "kafka": "Kafka"}
    named = re.findall(rf"\b({'|'.join(kinds_)})/(transom-[\w-]+)", COMMANDS)
    assert len(named) > 10
    assert [f"{kind}/{name}" for kind, name in named if manifests.named(kinds_[kind], name) is None] == []
    pods_ = {f"{one['metadata']['name']}-0" for one in manifests.of("StatefulSet")}
    assert set(re.findall(r"\btransom-[\w-]+-0\b", COMMANDS)) <= pods_


Break = Callable[[Documents], object]


def one(documents: Documents, kind: str, name: str) -> dict[str, Any]:
    found = documents.named(kind, f"transom-{name}" if name else "transom")
    assert found is not None
    return found


def container(documents: Documents, name: str, kind: str = "StatefulSet") -> dict[str, Any]:
    return containers_of(one(documents, kind, name))[0]


def pod(documents: Documents, name: str, kind: str = "StatefulSet") -> dict[str, Any]:
    found = pod_of(one(documents, kind, name))
    assert found is not None
    return found


def variable(documents: Documents, name: str, variable_: str, kind: str = "StatefulSet") -> dict[str, Any]:
    return next(each for each in container(documents, name, kind)["env"] if each["name"] == variable_)


def drop(documents: Documents, kind: str, name: str) -> None:
    documents.all.remove(one(documents, kind, name))


def policy(documents: Documents, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = one(documents, "NetworkPolicy", name)["spec"]
    return spec


def trigger(documents: Documents, name: str) -> dict[str, Any]:
    found: dict[str, Any] = one(documents, "ScaledObject", name)["spec"]["triggers"][0]["metadata"]
    return found


def secrets(documents: Documents, name: str) -> dict[str, str]:
    found: dict[str, str] = one(documents, "Secret", name)["stringData"]
    return found


BROKEN: dict[str, tuple[Break, str]] = {
    "a command that is none": (
        lambda d: container(d, "router").update(args=["run", "routers"]),
        "'routers' is not one of",
    ),
    "an option that is none": (
        lambda d: container(d, "topics", "Job").update(args=["topics", "--replicas", "3"]),
        "No such option",
    ),
    "a variable that is none": (
        lambda d: variable(d, "router", "TRANSOM_REDIS_URL_FILE").update(name="TRANSOM_VALKEY_URL_FILE"),
        "TRANSOM_VALKEY_URL_FILE is no setting of it",
    ),
    "a variable of another service": (
        lambda d: container(d, "router")["env"].append({"name": "TRANSOM_WHATSAPP_IN_FLIGHT", "value": "8"}),
        "TRANSOM_WHATSAPP_IN_FLIGHT is no setting of it",
    ),
    "a variable that is required": (
        lambda d: container(d, "whatsapp-sender")["env"].pop(),
        "TRANSOM_WHATSAPP_TOKEN is required",
    ),
    "a value that is none": (
        lambda d: one(d, "ConfigMap", "service")["data"].update(TRANSOM_LOG_LEVEL="loud"),
        "TRANSOM_LOG_LEVEL",
    ),
    "a key of a ConfigMap": (
        lambda d: one(d, "ConfigMap", "addresses")["data"].pop("portal-url"),
        "no ConfigMap transom-addresses has the key portal-url",
    ),
    "a ConfigMap": (lambda d: drop(d, "ConfigMap", "service"), "there is no ConfigMap transom-service"),
    "a key of a Secret": (lambda d: secrets(d, "meta").pop("app-secrets"), "has no key app-secrets"),
    "a Secret": (lambda d: drop(d, "Secret", "sms"), "nobody makes the Secret transom-sms"),
    "a user of Kafka": (lambda d: drop(d, "KafkaUser", "router"), "nobody makes the Secret transom-router"),
    "a file that is not mounted": (
        lambda d: pod(d, "router")["volumes"][0]["projected"]["sources"].pop(),
        "is named and not mounted",
    ),
    "an account": (lambda d: drop(d, "ServiceAccount", "router"), "there is no ServiceAccount transom-router"),
    "a token of an account": (
        lambda d: pod(d, "router").update(automountServiceAccountToken=True),
        "automountServiceAccountToken is false",
    ),
    "root": (lambda d: pod(d, "router")["securityContext"].update(runAsUser=0), "a user that is not root"),
    "a writable root": (
        lambda d: container(d, "router")["securityContext"].update(readOnlyRootFilesystem=False),
        "its root is read-only",
    ),
    "a capability": (
        lambda d: container(d, "router")["securityContext"]["capabilities"].update(add=["NET_RAW"]),
        "it has no capability",
    ),
    "no limit of memory": (lambda d: container(d, "router").pop("resources"), "memory is requested and limited"),
    "a probe's path": (
        lambda d: container(d, "router")["readinessProbe"]["httpGet"].update(path="/ready"),
        "readinessProbe asks",
    ),
    "a port": (lambda d: container(d, "router")["ports"][0].update(containerPort=8081), "it listens on 8080 and 9090"),
    "a short grace": (
        lambda d: pod(d, "edge", "Deployment").update(terminationGracePeriodSeconds=30),
        "terminationGracePeriodSeconds must be more than the 32 seconds",
    ),
    "no pause before a stop": (lambda d: container(d, "edge", "Deployment").pop("lifecycle"), "pauses before it stops"),
    "no name of the member": (
        lambda d: container(d, "router")["env"].remove(variable(d, "router", "TRANSOM_INSTANCE")),
        "TRANSOM_INSTANCE belongs to the pods of a StatefulSet",
    ),
    "another pod's spread": (
        lambda d: pod(d, "router")["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].popitem(),
        "it spreads other pods than its own",
    ),
    "a Service's selector": (
        lambda d: one(d, "Service", "edge")["spec"]["selector"].popitem(),
        "Service transom-edge selects",
    ),
    "a Service's port": (
        lambda d: one(d, "Service", "edge")["spec"]["ports"][0].update(targetPort="web"),
        "its pods have no port web",
    ),
    "no Service of a StatefulSet": (
        lambda d: drop(d, "Service", "router"),
        "there is no Service transom-router without an address",
    ),
    "an Ingress' Service": (lambda d: drop(d, "Service", "portal"), "there is no Service transom-portal"),
    "an Ingress' host": (
        lambda d: one(d, "ConfigMap", "addresses")["data"].update({"inbox-url": "https://other.example"}),
        "the addresses say",
    ),
    "all of the edge in public": (
        lambda d: one(d, "Ingress", "webhooks")["spec"]["rules"][0]["http"]["paths"][0].update(path="/"),
        "of the edge /webhooks/ is passed on alone",
    ),
    "a budget's selector": (
        lambda d: one(d, "PodDisruptionBudget", "router")["spec"]["selector"]["matchLabels"].popitem(),
        "PodDisruptionBudget transom-router selects",
    ),
    "nodes that cannot be drained in an outage": (
        lambda d: one(d, "PodDisruptionBudget", "router")["spec"].pop("unhealthyPodEvictionPolicy"),
        "no node could be drained",
    ),
    "no budget": (lambda d: drop(d, "PodDisruptionBudget", "router"), "one PodDisruptionBudget each"),
    "no default": (lambda d: drop(d, "NetworkPolicy", "default-deny"), "nothing denies the pods of Transom"),
    "a policy of nobody": (
        lambda d: policy(d, "to-valkey")["podSelector"]["matchExpressions"][0].update(values=["routers"]),
        "there are no pods routers",
    ),
    "a way that is missing": (lambda d: drop(d, "NetworkPolicy", "to-kafka"), "and needs ['dns', 'kafka'"),
    "a way that nobody needs": (
        lambda d: policy(d, "to-providers")["podSelector"]["matchExpressions"][0]["values"].append("router"),
        "StatefulSet transom-router may reach ['dns', 'internet'",
    ),
    "a wrong port": (lambda d: policy(d, "to-kafka")["egress"][0]["ports"][0].update(port=9092), "kafka at {9092}"),
    "the whole network": (
        lambda d: policy(d, "to-providers")["egress"][0]["to"][0]["ipBlock"].pop("except"),
        "0.0.0.0/0 at {443}",
    ),
    "everybody": (lambda d: policy(d, "from-proxy")["ingress"][0].pop("from"), "is reached by everybody"),
    "a broker that is alone": (
        lambda d: one(d, "Kafka", "kafka")["spec"]["kafka"]["config"].update({"min.insync.replicas": 1}),
        "min.insync.replicas must be 2",
    ),
    "small records": (
        lambda d: one(d, "Kafka", "kafka")["spec"]["kafka"]["config"].update({"message.max.bytes": 1048588}),
        "it must take records of",
    ),
    "plain text": (
        lambda d: one(d, "ConfigMap", "kafka")["data"].update(TRANSOM_KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT"),
        "Kafka transom-kafka says SASL_SSL",
    ),
    "another listener": (
        lambda d: one(d, "Kafka", "kafka")["spec"]["kafka"]["listeners"][0].update(port=9094),
        "Kafka transom-kafka says transom-kafka-kafka-bootstrap:9094",
    ),
    "a right too many": (
        lambda d: one(d, "KafkaUser", "portal")["spec"]["authorization"]["acls"][0]["operations"].append("Read"),
        "not those of `transom topics --acls`",
    ),
    "another's rights": (
        lambda d: variable(d, "edge", "TRANSOM_KAFKA_SASL_USERNAME", "Deployment").update(value="transom-ingest"),
        "must be transom-ingest-edge",
    ),
    "more pods than partitions": (
        lambda d: one(d, "ScaledObject", "router")["spec"].update(maxReplicaCount=24),
        "maxReplicaCount must be the partitions of outbound.intents.v1",
    ),
    "a group that does not read": (
        lambda d: trigger(d, "router").update(consumerGroup="routers.outbound.intents.v1"),
        "groups are scaled that do not read",
    ),
    "a topic that is none": (lambda d: trigger(d, "router").update(topic="intents"), "partitions of intents"),
    "a workload that is none": (
        lambda d: one(d, "ScaledObject", "router")["spec"]["scaleTargetRef"].update(kind="Deployment"),
        "there is no Deployment transom-router",
    ),
    "replicas twice": (lambda d: one(d, "StatefulSet", "router")["spec"].update(replicas=2), "would undo the scaling"),
    "a password of PostgreSQL": (
        lambda d: secrets(d, "db-owner").update(password="CHANGE-ME-OTHER"),
        "a user or password that Cluster transom-db does not have",
    ),
    "a name of PostgreSQL": (
        lambda d: one(d, "Cluster", "db")["metadata"].update(name="transom-database"),
        "names no database of Cluster transom-database",
    ),
    "a certificate that nobody checks": (
        lambda d: secrets(d, "postgres").update(dsn=secrets(d, "postgres")["dsn"].replace("verify-full", "require")),
        "dsn checks no certificate",
    ),
    "no TLS to PostgreSQL": (
        lambda d: one(d, "Cluster", "db")["spec"]["postgresql"].pop("pg_hba"),
        "lets users in without TLS",
    ),
    "few connections": (
        lambda d: one(d, "Cluster", "db")["spec"]["postgresql"]["parameters"].update(max_connections="100"),
        "max_connections must be",
    ),
    "one copy of a commit": (
        lambda d: one(d, "Cluster", "db")["spec"]["postgresql"].pop("synchronous"),
        "acknowledges commits that one instance alone has",
    ),
    "a password of Valkey": (
        lambda d: secrets(d, "valkey").update({"users.acl": "user default off"}),
        "a user or password that users.acl does not have",
    ),
    "a real secret": (lambda d: secrets(d, "sms").update({"twilio-auth-tokens": "5f1c"}), "looks like a real value"),
    "two versions": (lambda d: container(d, "router").update(image="registry.example/transom:0.0.9"), "one image"),
    "nothing to scrape": (
        lambda d: one(d, "PodMonitor", "")["spec"]["podMetricsEndpoints"][0].update(port="prometheus"),
        "has no port prometheus",
    ),
}


@pytest.mark.parametrize(("breaks", "fault"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_is_found(manifests: Documents, breaks: Break, fault: str) -> None:
    broken = Documents(copy.deepcopy(manifests.all))
    breaks(broken)
    assert any(fault in found for found in faults(broken)), list(faults(broken))


MISSHAPEN: dict[str, tuple[Break, str]] = {
    "a field that Kubernetes does not have": (
        lambda d: pod(d, "router").update(terminationGracePeriod=30),
        "terminationGracePeriod",
    ),
    "a number as text": (lambda d: container(d, "router")["ports"][0].update(containerPort="8080"), "8080"),
    "a version that is none": (lambda d: one(d, "StatefulSet", "router").update(apiVersion="apps/v9"), "apps/v9"),
    "a field that Strimzi does not have": (
        lambda d: one(d, "Kafka", "kafka")["spec"]["kafka"].update(replicas=3),
        "replicas",
    ),
    "a number that PostgreSQL wants as text": (
        lambda d: one(d, "Cluster", "db")["spec"]["postgresql"]["parameters"].update(max_connections=600),
        "600",
    ),
    "a word that KEDA does not have": (lambda d: trigger(d, "router").update(lag="1000"), "lag"),
    "a protocol that Kafka 4 does not take": (lambda d: trigger(d, "router").update(version="1.0.0"), "1.0.0"),
    "a field that KEDA does not have": (
        lambda d: one(d, "ScaledObject", "router")["spec"].update(maximum=3),
        "maximum",
    ),
    "a field that Prometheus' operator does not have": (
        lambda d: one(d, "PodMonitor", "")["spec"]["podMetricsEndpoints"][0].update(prot="metrics"),
        "prot",
    ),
    "an alert that Prometheus' operator does not take": (
        lambda d: one(d, "PrometheusRule", "")["spec"]["groups"][0]["rules"][0].update(when="1m"),
        "when",
    ),
    "a kind that nobody knows": (lambda d: one(d, "Kafka", "kafka").update(kind="Kafkas"), "is known to nobody here"),
}


@pytest.mark.parametrize(("breaks", "fault"), MISSHAPEN.values(), ids=MISSHAPEN.keys())
def test_what_has_another_shape_is_found(manifests: Documents, breaks: Break, fault: str) -> None:
    broken = Documents(copy.deepcopy(manifests.all))
    breaks(broken)
    changed = [each for each, whole in zip(broken.all, manifests.all, strict=True) if each != whole]
    assert any(fault in found for each in changed for found in kinds.faults(each, kinds.RELEASES[-1]))
