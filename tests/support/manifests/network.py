"""What must hold between pods: services, ingresses, disruption budgets, and who may talk to whom."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from libs.common.settings import (
    GraphUrlSettings,
    KafkaSettings,
    PostgresSettings,
    RedisSettings,
    Settings,
    SignInSettings,
    SmsSettings,
)
from tests.support.manifests.build import Document, containers_of, labels_of
from tests.support.manifests.index import COMPONENT, NAME, Documents, title
from tests.support.manifests.pods import settings_of

_OURS = {NAME: "transom"}
_PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}

NEEDS: Mapping[str, tuple[type[Settings], ...]] = {
    "kafka": (KafkaSettings,),
    "postgres": (PostgresSettings,),
    "valkey": (RedisSettings,),
    "internet": (GraphUrlSettings, SmsSettings, SignInSettings),
}
"""Who has settings of one of these classes talks to it."""
_SERVES = {"edge", "portal", "inbox"}


def faults(documents: Documents) -> Iterator[str]:
    yield from _services(documents)
    yield from _ingresses(documents)
    yield from _budgets(documents)
    yield from _policies(documents)
    for document in documents.ours():
        yield from _ways(documents, document)


def _services(documents: Documents) -> Iterator[str]:
    for service in documents.of("Service"):
        hit = documents.selected({"matchLabels": service["spec"]["selector"]})
        if len(hit) != 1:
            yield f"{title(service)} selects {len(hit)} workloads"
            continue
        ports = {port["name"] for container in containers_of(hit[0]) for port in container.get("ports", ())}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"{title(service)}: its pods have no port {port['targetPort']}"
    for workload in documents.of("StatefulSet"):
        governing = documents.named("Service", workload["spec"]["serviceName"])
        if governing is None or governing["spec"].get("clusterIP") != "None":
            yield f"{title(workload)}: there is no Service {workload['spec']['serviceName']} without an address"


def _ingresses(documents: Documents) -> Iterator[str]:
    addresses = documents.keys_of_config("transom-addresses")
    hosts = {
        f"transom-{name}": urlsplit(addresses[key]).hostname
        for name, key in (("edge", "public-url"), ("portal", "portal-url"), ("inbox", "inbox-url"))
    }
    reached: dict[str, str] = {}
    for ingress in documents.of("Ingress"):
        secured = {host for one in ingress["spec"]["tls"] for host in one["hosts"]}
        for rule in ingress["spec"]["rules"]:
            if rule["host"] not in secured:
                yield f"{title(ingress)}: {rule['host']} is served without TLS"
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                service = documents.named("Service", backend["name"])
                if service is None or backend["port"]["name"] not in {one["name"] for one in service["spec"]["ports"]}:
                    yield f"{title(ingress)}: there is no Service {backend['name']} with that port"
                reached[backend["name"]] = rule["host"]
                if backend["name"] == "transom-edge" and path["path"] != "/webhooks/":
                    yield f"{title(ingress)}: of the edge /webhooks/ is passed on alone, not {path['path']}"
    if reached != hosts:
        yield f"the ingresses serve {reached}, and the addresses say {hosts}"


def _budgets(documents: Documents) -> Iterator[str]:
    held: list[str] = []
    for budget in documents.of("PodDisruptionBudget"):
        hit = documents.selected(budget["spec"]["selector"])
        if len(hit) != 1:
            yield f"{title(budget)} selects {len(hit)} workloads"
        held += [title(one) for one in hit]
        if budget["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{title(budget)}: while PostgreSQL is away no pod is ready, and no node could be drained"
    lasting = {title(one) for one in documents.ours() if one["kind"] != "Job"}
    if sorted(held) != sorted(lasting):
        yield f"one PodDisruptionBudget each: {sorted(lasting.symmetric_difference(held))} differ"


def _policies(documents: Documents) -> Iterator[str]:
    denied = [p for p in documents.of("NetworkPolicy") if not p["spec"].keys() & {"ingress", "egress"}]
    if not any(
        p["spec"]["podSelector"] == {"matchLabels": _OURS} and set(p["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        for p in denied
    ):
        yield "nothing denies the pods of Transom what no policy allows"
    known = {labels_of(one).get(COMPONENT) for one in documents.ours()}
    for policy in documents.of("NetworkPolicy"):
        spec = policy["spec"]
        if not documents.selected(spec["podSelector"]) and spec["podSelector"] not in _of_operators(documents):
            yield f"{title(policy)} selects no pod"
        for one in spec["podSelector"].get("matchExpressions", ()):
            if unknown := set(one["values"]) - known:
                yield f"{title(policy)}: there are no pods {', '.join(sorted(unknown))}"
        allowed = {word.capitalize() for word in ("ingress", "egress") if word in spec}
        if not allowed <= set(spec["policyTypes"]):
            yield f"{title(policy)}: its policyTypes leave out what it allows"


def _of_operators(documents: Documents) -> list[Mapping[str, Any]]:
    """How the pods of Strimzi and of CloudNativePG are selected."""
    return [
        *({"matchLabels": {"strimzi.io/cluster": one["metadata"]["name"]}} for one in documents.of("Kafka")),
        *({"matchLabels": {"cnpg.io/cluster": one["metadata"]["name"]}} for one in documents.of("Cluster")),
    ]


def _ways(documents: Documents, document: Document) -> Iterator[str]:
    """The ways out and in that the policies open, beside those that the settings of its command need."""
    cls, component = settings_of(document), labels_of(document).get(COMPONENT)
    if cls is None:
        return
    needed = {name for name, classes in NEEDS.items() if issubclass(cls, classes)} | {"dns"}
    if component in ("edge", "ingest-worker"):
        needed.discard("internet")  # ingest verifies by the accounts' secrets and calls nobody
    found = set(_ways_out(documents, document))
    if found != needed:
        yield f"{title(document)} may reach {sorted(found)}, and needs {sorted(needed)}"
    served = {port for port, _from in _ways_in(documents, document)}
    wanted = set[int]() if document["kind"] == "Job" else {9090} | ({8080} if component in _SERVES else set())
    if served != wanted:
        yield f"{title(document)} is reached at {sorted(served)}, and serves {sorted(wanted)}"
    if any(not source for _port, source in _ways_in(documents, document)):
        yield f"{title(document)} is reached by everybody"


def _policies_on(documents: Documents, document: Document, way: str) -> Iterator[Mapping[str, Any]]:
    for policy in documents.of("NetworkPolicy"):
        if document in documents.selected(policy["spec"]["podSelector"]):
            yield from policy["spec"].get(way, ())


def _ways_out(documents: Documents, document: Document) -> Iterator[str]:
    kafka, database = _of_operators(documents)
    for rule in _policies_on(documents, document, "egress"):
        ports = {port["port"] for port in rule.get("ports", ())}
        for to in rule.get("to", [{}]):
            pods = to.get("podSelector")
            if "ipBlock" in to:
                closed = set(to["ipBlock"].get("except", ()))
                yield "internet" if ports == {443} and closed >= _PRIVATE else f"{to['ipBlock']['cidr']} at {ports}"
            elif "namespaceSelector" in to:
                yield "dns" if ports == {53} else f"{to} at {ports}"
            elif pods == kafka:
                yield "kafka" if ports == _ports_of_kafka(documents) else f"kafka at {ports}"
            elif pods == database:
                yield "postgres" if ports == {5432} else f"postgres at {ports}"
            elif pods is not None and documents.selected(pods):
                hit = documents.selected(pods)
                open_there = {port["containerPort"] for c in containers_of(hit[0]) for port in c.get("ports", ())}
                yield "valkey" if ports == open_there else f"{title(hit[0])} at {ports}"
            else:
                yield f"{to} at {ports}"


def _ports_of_kafka(documents: Documents) -> set[int]:
    return {listener["port"] for one in documents.of("Kafka") for listener in one["spec"]["kafka"]["listeners"]}


def _ways_in(documents: Documents, document: Document) -> Iterator[tuple[int, Any]]:
    for rule in _policies_on(documents, document, "ingress"):
        for port in rule.get("ports", ()):
            yield port["port"], rule.get("from")
