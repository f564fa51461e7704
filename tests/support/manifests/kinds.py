"""The shape of each document: by the schemas of its kind where a package has them, else by a minimum written here.

Kubernetes' own kinds, KEDA's and those of Prometheus' operator come from packages. Of Strimzi, CloudNativePG and its
plugin no package has the schemas. So the minimum names every field that our examples use, and refuses any other. A new
field is added here after a look into its operator's reference. KEDA's schema leaves the words of a trigger open, so
they are named here too.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped] # it has no types
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule
from pydantic import BaseModel

from tests.support.manifests.build import Document
from tests.support.manifests.index import title

RELEASES = ("1.32", "1.37")
"""The oldest that the page asks for, and the newest that the package has."""

Schema = Mapping[str, Any]


def _object(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _list(item: Any) -> Schema:
    return {"type": "array", "items": item, "minItems": 1}


_TEXT, _NUMBER, _BOOLEAN = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
_ANY: Schema = {"type": "object", "minProperties": 1}
_NAMED = _object({"name": _TEXT})
_KEY = _object({"name": _TEXT, "key": _TEXT})
_RESOURCES = _object({"requests": _ANY, "limits": _ANY})
_ACL = _object(
    {
        "resource": _object(
            {"type": {"enum": ["topic", "group"]}, "name": _TEXT, "patternType": {"enum": ["literal", "prefix"]}}
        ),
        "operations": _list(
            {"enum": ["Read", "Write", "Create", "Describe", "Alter", "AlterConfigs", "DescribeConfigs"]}
        ),
    }
)
_TRIGGER = _object(
    {
        "type": {"const": "kafka"},
        "metadata": _object(
            {
                "bootstrapServers": _TEXT,
                "consumerGroup": _TEXT,
                "topic": _TEXT,
                "lagThreshold": {"type": "string", "pattern": r"^\d+$"},
                "offsetResetPolicy": {"enum": ["earliest", "latest"]},
                "version": {"type": "string", "pattern": r"^(2\.[1-9]|[34]\.\d)\.\d$"},  # Kafka 4 takes none older
            }
        ),
        "authenticationRef": _NAMED,
    }
)

OPERATORS: Mapping[tuple[str, str], Schema] = {
    ("kafka.strimzi.io/v1", "KafkaNodePool"): _object(
        {
            "replicas": _NUMBER,
            "roles": _list({"enum": ["controller", "broker"]}),
            "storage": _object(
                {
                    "type": {"const": "jbod"},
                    "volumes": _list(
                        _object(
                            {"id": _NUMBER, "type": {"const": "persistent-claim"}, "size": _TEXT},
                            {"kraftMetadata": {"const": "shared"}, "deleteClaim": _BOOLEAN, "class": _TEXT},
                        )
                    ),
                }
            ),
        },
        {"resources": _RESOURCES, "template": _object({"pod": _object({"affinity": _ANY})})},
    ),
    ("kafka.strimzi.io/v1", "Kafka"): _object(
        {
            "kafka": _object(
                {
                    "listeners": _list(
                        _object(
                            {
                                "name": {"type": "string", "pattern": "^[a-z0-9]{1,11}$"},
                                "port": _NUMBER,
                                "type": {"const": "internal"},
                                "tls": _BOOLEAN,
                                "authentication": _object({"type": {"enum": ["scram-sha-512", "tls"]}}),
                            },
                            {"networkPolicyPeers": _list(_ANY)},
                        )
                    ),
                    "config": _ANY,
                },
                {"authorization": _object({"type": {"const": "simple"}}), "rack": _object({"topologyKey": _TEXT})},
            ),
            "entityOperator": _object({}, {"userOperator": {"type": "object"}, "topicOperator": {"type": "object"}}),
        }
    ),
    ("kafka.strimzi.io/v1", "KafkaUser"): _object(
        {
            "authentication": _object({"type": {"enum": ["scram-sha-512", "tls"]}}),
            "authorization": _object({"type": {"const": "simple"}, "acls": _list(_ACL)}),
        }
    ),
    ("postgresql.cnpg.io/v1", "Cluster"): _object(
        {
            "instances": _NUMBER,
            "imageName": _TEXT,
            "bootstrap": _object(
                {
                    "initdb": _object(
                        {"database": _TEXT, "owner": _TEXT, "secret": _NAMED},
                        {
                            "encoding": _TEXT,
                            "localeCType": _TEXT,
                            "localeCollate": _TEXT,
                            "postInitApplicationSQL": _list(_TEXT),
                        },
                    )
                }
            ),
            "storage": _object({"size": _TEXT}, {"storageClass": _TEXT}),
            "postgresql": _object(
                {"parameters": {"type": "object", "additionalProperties": {"type": "string"}}},
                {
                    "synchronous": _object(
                        {"method": {"enum": ["any", "first"]}, "number": _NUMBER},
                        {"dataDurability": {"enum": ["required", "preferred"]}},
                    ),
                    "pg_hba": _list(_TEXT),
                },
            ),
        },
        {
            "primaryUpdateStrategy": {"enum": ["unsupervised", "supervised"]},
            "managed": _object(
                {
                    "roles": _list(
                        _object(
                            {"name": _TEXT, "ensure": {"const": "present"}, "login": _BOOLEAN},
                            {"passwordSecret": _NAMED},
                        )
                    )
                }
            ),
            "resources": _RESOURCES,
            "walStorage": _object({"size": _TEXT}, {"storageClass": _TEXT}),
            "affinity": _object(
                {"enablePodAntiAffinity": _BOOLEAN, "topologyKey": _TEXT},
                {"podAntiAffinityType": {"enum": ["required", "preferred"]}},
            ),
            "plugins": _list(_object({"name": _TEXT, "isWALArchiver": _BOOLEAN, "parameters": _ANY})),
        },
    ),
    ("postgresql.cnpg.io/v1", "ScheduledBackup"): _object(
        {
            "cluster": _NAMED,
            "schedule": {"type": "string", "pattern": r"^(\S+ ){5}\S+$"},
            "method": {"const": "plugin"},
            "pluginConfiguration": _NAMED,
        },
        {"backupOwnerReference": {"enum": ["none", "self", "cluster"]}},
    ),
    ("barmancloud.cnpg.io/v1", "ObjectStore"): _object(
        {
            "configuration": _object(
                {
                    "destinationPath": _TEXT,
                    "s3Credentials": _object({"accessKeyId": _KEY, "secretAccessKey": _KEY}),
                    "wal": _object({"compression": _TEXT}),
                }
            ),
        },
        {"retentionPolicy": {"type": "string", "pattern": r"^\d+[dwm]$"}},
    ),
    ("keda.sh/v1alpha1", "ScaledObject"): _object(
        {
            "scaleTargetRef": _object({"apiVersion": {"const": "apps/v1"}, "kind": _TEXT, "name": _TEXT}),
            "minReplicaCount": _NUMBER,
            "maxReplicaCount": _NUMBER,
            "triggers": _list(_TRIGGER),
        },
        {
            "pollingInterval": _NUMBER,
            "cooldownPeriod": _NUMBER,
            "advanced": _object({"horizontalPodAutoscalerConfig": _object({"behavior": _ANY})}),
        },
    ),
}
"""What may stand under ``spec``."""


PACKAGED: Mapping[tuple[str, str], type[BaseModel]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): ScaledObject,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): TriggerAuthentication,
    ("monitoring.coreos.com/v1", "PodMonitor"): PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PrometheusRule,
}


def is_kubernetes_own(document: Document) -> bool:
    group, _, _version = str(document["apiVersion"]).rpartition("/")
    return "." not in group or group.endswith(".k8s.io")


def faults(document: Document, release: str) -> Iterator[str]:
    """What of a document its schema refuses."""
    if is_kubernetes_own(document):
        plain = yaml.safe_load(yaml.safe_dump(document))
        try:
            kubernetes_validate.validate(plain, release, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{title(document)} in {release}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{title(document)}: Kubernetes {release} has no {document['apiVersion']}"
        return
    kind = document["apiVersion"], document["kind"]
    if kind not in OPERATORS and kind not in PACKAGED:
        yield f"{title(document)}: {document['apiVersion']} is known to nobody here"
    if kind in OPERATORS:
        yield from _refused(OPERATORS[kind], document, document["spec"])
    if kind in PACKAGED:
        yield from _refused(_packaged(*kind), document, document)


def _refused(schema: Schema, document: Document, part: Any) -> Iterator[str]:
    for found in jsonschema.Draft202012Validator(schema).iter_errors(part):
        yield f"{title(document)}: {'/'.join(map(str, found.absolute_path))}: {found.message}"


@functools.cache
def _packaged(api_version: str, name: str) -> Schema:
    schema = PACKAGED[api_version, name].model_json_schema()
    closed: Schema = _closed(schema)
    return closed


def _closed(schema: Any) -> Any:
    """The schema, with fields that it does not name refused, as Kubernetes itself would drop them."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **inner} if "properties" in inner and "type" in inner else inner
