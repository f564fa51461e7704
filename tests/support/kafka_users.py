"""The users of Strimzi's example, written from the declared rights: ``python -m tests.support.kafka_users``."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from libs.common.events.access import PRINCIPALS, acls

FILE = Path(__file__).parents[2] / "deploy/k8s/examples/strimzi/users.yaml"
_HEAD = """\
# A user for each service and each kind of outside system, with the rights that `transom topics --acls` prints.
# Strimzi makes a Secret of the user's name with its password. Written by `python -m tests.support.kafka_users`.
"""


def kafka_users() -> list[dict[str, Any]]:
    """The resources, in the order of the declaration."""
    rights: Mapping[str, list[dict[str, Any]]] = defaultdict(list)
    for acl in acls():
        resource = {"type": acl.resource, "name": acl.name, "patternType": "prefix" if acl.prefixed else "literal"}
        rights[acl.principal].append({"resource": resource, "operations": list(acl.operations)})
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1",
            "kind": "KafkaUser",
            "metadata": {
                "name": f"transom-{one.name}",
                "namespace": "transom",
                "labels": {"strimzi.io/cluster": "transom-kafka"},
            },
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {"type": "simple", "acls": rights[f"transom-{one.name}"]},
            },
        }
        for one in PRINCIPALS
    ]


def written() -> str:
    """The file."""
    return _HEAD + yaml.safe_dump_all(kafka_users(), sort_keys=False, width=118)


if __name__ == "__main__":
    FILE.write_text(written())
