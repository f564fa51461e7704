"""A broker that asks who is there (SASL PLAIN) and allows what was allowed (StandardAuthorizer), and ACLs applied from
commands as they are printed.
"""

import shlex
from itertools import pairwise
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from deploy.local.servers import kafka_probe
from deploy.local.servers.kafka import KafkaServer
from deploy.local.servers.ports import LOOPBACK
from libs.common.events.access import PRINCIPALS
from libs.common.kafka.connection import KafkaConnection

PASSWORD = "open-sesame"
ADMIN = "admin"
USERS = (ADMIN, *(f"transom-{one.name}" for one in PRINCIPALS), "transom-nobody")

# https://kafka.apache.org/protocol: the numbers of AclOperation, ResourceType, PatternType, AclPermissionType
_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Alter": 7, "Describe": 8, "DescribeConfigs": 10, "AlterConfigs": 11}
_API_VERSIONS = 18  # the one request that is answered before a client has named itself
_RESOURCES = {"topic": 2, "group": 3}
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3


class SecuredKafka(KafkaServer):
    """The local broker with one user per principal, and one that may do everything."""

    def _is_ready(self) -> bool:
        try:
            return not any(kafka_probe.ask(LOOPBACK, self.port, _API_VERSIONS, 0, b"")[:2])  # no error code
        except (OSError, ValueError):
            return False

    def _properties(self, data: Path) -> dict[str, object]:
        users = " ".join(f'user_{user}="{PASSWORD}"' for user in USERS)
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
        listener = f"SASL_PLAINTEXT://{LOOPBACK}:{self.port}"
        return super()._properties(data) | {
            "listeners": f"{listener},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": listener,
            "listener.security.protocol.map": "SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_PLAINTEXT",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
                f'{plain} required username="{ADMIN}" password="{PASSWORD}" {users};'
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMIN};User:ANONYMOUS",  # anonymous is the controller's own listener
        }


def connection(bootstrap: str, user: str, prefix: str = "") -> KafkaConnection:
    """How this user reaches the broker."""
    return KafkaConnection(
        bootstrap=bootstrap,
        topic_prefix=prefix,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username=user,
        sasl_password=PASSWORD,
    )


async def apply(admin: AIOKafkaAdminClient, command: str) -> None:
    """Do what ``kafka-acls.sh`` would do with this command."""
    words = shlex.split(command)
    options = dict(pairwise(words))
    (resource,) = [one for one in _RESOURCES if f"--{one}" in words]
    pattern = _PREFIXED if options.get("--resource-pattern-type") == "prefixed" else _LITERAL
    operations = [after for word, after in pairwise(words) if word == "--operation"]
    for operation in operations:
        request = CreateAclsRequest(
            _RESOURCES[resource],
            options[f"--{resource}"],
            pattern,
            options["--allow-principal"],
            "*",
            _OPERATIONS[operation],
            _ALLOW,
        )  # fmt: skip -- positional, as the class has it
        answer = await admin._send_request(request)
        for code, message in answer.creation_responses:
            assert code == 0, message
