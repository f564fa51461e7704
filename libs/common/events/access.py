"""The access rights to topics: one user (principal) per service, and one for each kind of outside system. Pure.

Kafka is the only authorisation between the services (docs/architecture/threats.md): a record is believed because of the
topic it stands in. A writer of ``webhooks.v1`` can act as Meta for every organisation. A writer of
``outbound.intents.v1`` can act as the staff of every organisation. A writer of commands sends with our tokens. This
table is the declaration. ``transom topics --acls`` prints it as Kafka ACLs.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from libs.common.events.topics import (
    DELIVERY_UPDATES,
    DIRECTORY_CHANGES,
    INBOUND_MESSAGES,
    INBOX_NOTICES,
    OUTBOUND_DECISIONS,
    OUTBOUND_INTENTS,
    OUTBOUND_REFUSED,
    OUTBOUND_SMS,
    OUTBOUND_WHATSAPP,
    PORTAL_MESSAGES,
    TOPICS,
    WEBHOOKS,
    Topic,
)

REPLAY = "replay."
"""The prefix of the consumer groups of ``transom replay``."""

EVERY = "*"
"""Every resource of its kind."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A user on the brokers.

    It reads in consumer groups whose names begin with its own name, or with ``group``: one group for each topic. A
    service also writes the dead letters of the topics it reads.
    """

    name: str
    writes: tuple[Topic, ...]
    reads: tuple[Topic, ...]
    is_service: bool = True
    group: str | None = None  # where it differs from the name
    counts: tuple[Topic, ...] = ()  # topics whose partitions it counts
    follows: tuple[Topic, ...] = ()  # topics whose newest records every process reads, outside of any group

    @property
    def may_write(self) -> tuple[Topic, ...]:
        """All topics that it may write."""
        return (*self.writes, *(topic.dlq for topic in self.reads)) if self.is_service else self.writes


_DEAD_LETTERS = tuple(topic.dlq for topic in TOPICS)

# its intents ask for a fresh link where a customer wants one
_OF_WORKER = (INBOUND_MESSAGES, DELIVERY_UPDATES, OUTBOUND_REFUSED, DIRECTORY_CHANGES, OUTBOUND_INTENTS)
_READ_BY_WORKER = (WEBHOOKS, DIRECTORY_CHANGES, PORTAL_MESSAGES)

PRINCIPALS = (
    # ingest as one process, or in its two roles
    Principal("ingest", writes=(WEBHOOKS, *_OF_WORKER), reads=_READ_BY_WORKER),
    Principal("ingest-edge", writes=(WEBHOOKS,), reads=()),
    Principal("ingest-worker", writes=_OF_WORKER, reads=_READ_BY_WORKER, group="ingest"),
    Principal(
        "router",
        writes=(OUTBOUND_DECISIONS, OUTBOUND_WHATSAPP, OUTBOUND_SMS, DELIVERY_UPDATES),
        reads=(OUTBOUND_INTENTS, OUTBOUND_REFUSED),
    ),
    Principal(
        "whatsapp-sender",
        writes=(DELIVERY_UPDATES, OUTBOUND_REFUSED),
        reads=(OUTBOUND_WHATSAPP,),
        counts=(WEBHOOKS,),  # a missing webhook is evidence once every partition was read
    ),
    Principal(
        "sms-bridge",
        writes=(WEBHOOKS, DELIVERY_UPDATES, OUTBOUND_REFUSED),  # customers' SMS whose callback no edge took
        reads=(OUTBOUND_SMS,),
    ),
    Principal("portal", writes=(PORTAL_MESSAGES,), reads=()),  # customers reach it: it may write nothing else
    Principal(
        "inbox",
        writes=(OUTBOUND_INTENTS, DIRECTORY_CHANGES, INBOX_NOTICES),
        reads=(INBOUND_MESSAGES, DELIVERY_UPDATES, OUTBOUND_DECISIONS, DIRECTORY_CHANGES),
        follows=(INBOUND_MESSAGES, DELIVERY_UPDATES, OUTBOUND_DECISIONS, DIRECTORY_CHANGES, INBOX_NOTICES),
    ),
    # outside the project
    Principal("platform", writes=(DIRECTORY_CHANGES,), reads=(DIRECTORY_CHANGES,), is_service=False),
    Principal(
        "agent",
        writes=(OUTBOUND_INTENTS,),
        reads=(INBOUND_MESSAGES, OUTBOUND_DECISIONS, DELIVERY_UPDATES),
        is_service=False,
    ),
    Principal(
        "staff",
        writes=(OUTBOUND_INTENTS,),
        reads=(INBOUND_MESSAGES, OUTBOUND_DECISIONS, DELIVERY_UPDATES),
        is_service=False,
    ),
    # what starts more processes by how far groups are behind (KEDA): it reads no record
    Principal("scaler", writes=(), reads=(), is_service=False, counts=TOPICS),
    # a person: creates topics, reads and replays what lies in them
    Principal("operator", writes=TOPICS, reads=(*TOPICS, *_DEAD_LETTERS), is_service=False),
)

Resource = Literal["topic", "group"]
Operation = Literal["Read", "Write", "Create", "Describe", "Alter", "AlterConfigs", "DescribeConfigs"]


@dataclass(frozen=True, slots=True)
class Acl:
    """One line of ``kafka-acls``: what ``principal`` may do with ``name``.

    With ``prefixed`` it holds for every name that begins with ``name``.
    """

    principal: str
    resource: Resource
    name: str
    operations: tuple[Operation, ...]
    prefixed: bool = False

    def command(self, bootstrap: str) -> str:
        """The shell command."""
        words = [
            "kafka-acls.sh",
            "--bootstrap-server",
            bootstrap,
            "--add",
            "--allow-principal",
            f"User:{self.principal}",
        ]
        for operation in self.operations:
            words += ["--operation", operation]
        words += [f"--{self.resource}", self.name]
        return shlex.join([*words, "--resource-pattern-type", "prefixed"] if self.prefixed else words)


def acls(topic_prefix: str = "", user_prefix: str = "transom-") -> Iterator[Acl]:
    """The complete list of ACLs for topics and users with these prefixes."""
    for one in PRINCIPALS:
        user = f"{user_prefix}{one.name}"
        for topic in one.may_write:
            yield Acl(user, "topic", f"{topic_prefix}{topic.name}", ("Write", "Describe"))
        for topic in dict.fromkeys((*one.reads, *one.follows)):
            yield Acl(user, "topic", f"{topic_prefix}{topic.name}", ("Read", "Describe"))
        for topic in one.counts:
            yield Acl(user, "topic", f"{topic_prefix}{topic.name}", ("Describe",))
        if one.name == "operator":
            for topic in (*TOPICS, *_DEAD_LETTERS):
                name = f"{topic_prefix}{topic.name}"
                yield Acl(user, "topic", name, ("Create", "Alter", "AlterConfigs", "DescribeConfigs"))
        yield from _of_groups(one, user, topic_prefix)


def _of_groups(one: Principal, user: str, topic_prefix: str) -> Iterator[Acl]:
    """The rights of a user on consumer groups."""
    if one.name == "operator":
        yield Acl(user, "group", f"{topic_prefix}{REPLAY}", ("Read", "Describe"), prefixed=True)
        yield Acl(user, "group", EVERY, ("Describe",))  # adding partitions needs the offsets of every group
    elif one.name == "scaler":
        for service in PRINCIPALS:
            if service.is_service and service.reads and service.group is None:
                yield Acl(user, "group", f"{topic_prefix}{service.name}.", ("Describe",), prefixed=True)
    elif one.is_service and one.reads:
        yield Acl(user, "group", f"{topic_prefix}{one.group or one.name}.", ("Read",), prefixed=True)
    elif one.reads:  # outside systems name their groups themselves, after their prefix
        yield Acl(user, "group", f"{topic_prefix}{one.name}", ("Read",), prefixed=True)
