"""All documents, and what is looked for among them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.support.manifests.build import WORKLOADS, Document, labels_of

NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"

MADE_BY_HAND = {
    "transom-valkey-tls": {"ca.crt", "tls.crt", "tls.key"},
    "transom-backup-bucket": {"access-key-id", "secret-access-key"},
}
"""Secrets that the page makes by a command, and their keys."""


class Documents:
    def __init__(self, documents: Iterable[Document]) -> None:
        self.all = list(documents)

    def of(self, *kinds: str) -> list[Document]:
        return [document for document in self.all if document["kind"] in kinds]

    def named(self, kind: str, name: str) -> Document | None:
        return next((one for one in self.of(kind) if one["metadata"]["name"] == name), None)

    def ours(self) -> list[Document]:
        """Our own workloads and jobs."""
        return [one for one in self.of(*WORKLOADS) if labels_of(one).get(NAME) == "transom"]

    def selected(self, selector: Mapping[str, Any]) -> list[Document]:
        """The workloads and jobs whose pods a label selector selects."""
        return [one for one in self.of(*WORKLOADS) if selects(selector, labels_of(one))]

    def keys_of_secret(self, name: str) -> set[str] | None:
        """The keys of a Secret: of the documents, of an operator, or of the page. None: nobody makes it."""
        if (secret := self.named("Secret", name)) is not None:
            return {*secret.get("stringData", {}), *secret.get("data", {})}
        if self.named("KafkaUser", name) is not None:
            return {"password", "sasl.jaas.config"}
        if any(name == f"{one['metadata']['name']}-cluster-ca-cert" for one in self.of("Kafka")):
            return {"ca.crt", "ca.p12", "ca.password"}
        if any(name == f"{one['metadata']['name']}-ca" for one in self.of("Cluster")):
            return {"ca.crt", "ca.key"}
        return MADE_BY_HAND.get(name)

    def keys_of_config(self, name: str) -> Mapping[str, str]:
        found = self.named("ConfigMap", name)
        return {} if found is None else found["data"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects what has these labels."""
    if selector.keys() - {"matchLabels", "matchExpressions"}:
        raise ValueError(f"{selector} is not understood here")
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    expressions = selector.get("matchExpressions", ())
    if any(one["operator"] != "In" for one in expressions):
        raise ValueError(f"{selector} is not understood here")
    return all(labels.get(one["key"]) in one["values"] for one in expressions)


def title(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def nested(value: Any, key: str) -> Iterator[Any]:
    """Every value that stands under this key, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from nested(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from nested(inner, key)
