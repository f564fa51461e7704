"""The check of Kafka: every address reached, then topics, their settings and this user's rights.

Rights are those of the services that this environment is for, as ``libs.common.events.access`` declares them. The
brokers are asked what this user may do; nothing is tried. No request creates a topic. Brokers would make that of the
groups on a question for a group's coordinator: so every broker is asked about the groups instead.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.admin import DescribeConfigsRequest

from deploy.cli.doctor.certificates import look, tell_of
from deploy.cli.doctor.findings import Finding, some
from deploy.cli.doctor.kafka_protocol import (
    DESCRIBE,
    GROUP_FORBIDDEN,
    READ,
    TOPIC_FORBIDDEN,
    UNKNOWN_TOPIC,
    WRITE,
    GroupsRequest,
    TopicsRequest,
    may,
)
from deploy.cli.doctor.running import CALL_SECONDS, Tell, Told
from deploy.cli.doctor.site import Site
from deploy.cli.doctor.topic_rules import FoundTopic, Partition, topic_faults, unequal_partitions
from libs.common.errors import ConfigurationError
from libs.common.events.access import PRINCIPALS, Principal
from libs.common.events.topics import TOPICS, Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.reaching import is_silence, tls_cause, words_of

_SUBJECT = "Kafka"
_TOPIC = 2
_DEFAULT_PORT = 9092
_AWAY = {"kafka_unreachable", "kafka_silent"}


async def look_at_kafka(site: Site, tell: Tell) -> None:
    connection = site.kafka
    if connection is None:
        tell(
            Finding(
                "kafka_not_checked",
                _SUBJECT,
                "Nothing was looked at, because its settings are wrong.",
                "Mend the settings first.",
            )
        )
        return
    try:
        options = connection.client_options()
    except ConfigurationError as error:
        tell(Finding("kafka_certificate_unseen", "files of TLS", f"{error}.", "Mend the file, or name another."))
        tell(Finding("kafka_not_checked", _SUBJECT, "Nothing was looked at.", "Mend the files of TLS first."))
        return
    servers = [_split(server) for server in options["bootstrap_servers"]]
    told = list[Finding]()
    reached = await asyncio.gather(
        *(_reach(host, port, options, "bootstrap address", told.append) for host, port in servers)
    )
    for finding in told:
        tell(_of_one(finding) if any(reached) and finding.code in _AWAY else finding)
    if any(reached):
        known = {server for server, answers in zip(servers, reached, strict=True) if answers}
        await _look(site, connection, options, known, tell)


def _of_one(finding: Finding) -> Finding:
    """What it means where another bootstrap address answers: services run, with one way in fewer."""
    return Finding(
        "kafka_bootstrap_away",
        finding.subject,
        f"{finding.problem} Others of the list answer.",
        "Bring that broker back, or take its address from TRANSOM_KAFKA_BOOTSTRAP.",
    )


def _split(server: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    return (host.strip("[]"), int(port)) if colon and port.isdecimal() else (server, _DEFAULT_PORT)


async def _reach(host: str, port: int, options: Mapping[str, Any], what: str, tell: Tell) -> bool:
    """Whether this broker takes us; what is wrong is told."""
    subject = f"{host}:{port}"
    if "ssl_context" in options:
        seen = await look(host, port, options["ssl_context"])
        tell_of(seen, subject, "kafka", tell)
        if seen.certificate_is_bad:
            return False
    given = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    try:
        async with asyncio.timeout(CALL_SECONDS):
            one = await create_conn(host, port, request_timeout_ms=int(CALL_SECONDS * 1000), **given)
        one.close()
    except (KafkaError, OSError, TimeoutError, ValueError) as error:
        tell(_why_not(subject, error, what))
        return False
    return True


def _why_not(subject: str, error: BaseException, what: str) -> Finding:
    kind = type(error).__name__
    advertised = what != "bootstrap address"
    if "Authentication" in kind or "Sasl" in kind:
        return Finding(
            "kafka_refused",
            subject,
            f"The broker refuses the user, its password or the mechanism ({kind}).",
            "Correct TRANSOM_KAFKA_SASL_USERNAME, TRANSOM_KAFKA_SASL_PASSWORD and TRANSOM_KAFKA_SASL_MECHANISM.",
        )
    if is_silence(error) or "TimedOut" in kind:
        return Finding(
            "kafka_silent",
            subject,
            f"There is no answer within {CALL_SECONDS:.0f} seconds, although the address may accept connections.",
            "See whether the broker hangs, and whether this is the listener that TRANSOM_KAFKA_SECURITY_PROTOCOL"
            " names.",
        )
    no_tls = tls_cause(error)
    if isinstance(error, KafkaError | ConnectionResetError) or no_tls is not None:
        return Finding(
            "kafka_refused",
            subject,
            f"It accepts the connection and ends it ({no_tls or kind}). Perhaps this listener wants TLS and gets none,"
            " or gets TLS and takes none, or wants a user.",
            "Compare TRANSOM_KAFKA_SECURITY_PROTOCOL with the broker's listeners.",
        )
    return Finding(
        "kafka_broker_unreachable" if advertised else "kafka_unreachable",
        subject,
        f"This {what} cannot be reached: {words_of(error)}.",
        "Correct advertised.listeners of that broker, or let this host reach it."
        if advertised
        else "Start the broker, or set TRANSOM_KAFKA_BOOTSTRAP to where it listens.",
    )


async def _look(
    site: Site, connection: KafkaConnection, options: Mapping[str, Any], known: set[tuple[str, int]], tell: Tell
) -> None:
    client = AIOKafkaClient(**options, request_timeout_ms=int(CALL_SECONDS * 1000))
    told = Told(tell)

    try:
        await client.bootstrap()
        reached = await _reach_brokers(client, options, known, told)
        if not reached:
            return
        cluster = await _Cluster.of(client, connection, _wanted(site.services), reached)
        _tell_topics(cluster, told)
        await _tell_rights(client, connection, site, cluster, told)
    except IncompatibleBrokerVersion:
        told(
            Finding(
                "kafka_old",
                _SUBJECT,
                "The brokers do not know a request that is as old as Kafka 2.3.",
                "Upgrade the brokers.",
            )
        )
    except (KafkaError, OSError, TimeoutError) as error:
        told(_why_not(_SUBJECT, error, "bootstrap address"))
    finally:
        await client.close()
    if told.is_good:
        words = f"{len(cluster.brokers)} broker" + ("s" if len(cluster.brokers) > 1 else "")
        tell(Finding("kafka_good", _SUBJECT, f"{words}, and {len(cluster.topics)} topics as they should be."))


def _principals(services: Sequence[str]) -> list[Principal]:
    return [one for one in PRINCIPALS if one.name in services]


def _wanted(services: Sequence[str]) -> dict[str, Topic]:
    """The topics of these services by their declared names. All services: every declared topic."""
    found: dict[str, Topic] = {}
    for one in _principals(services):
        for topic in (*one.may_write, *one.reads, *one.follows, *one.counts):
            found[topic.name] = topic
    return found


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What the brokers answered. ``operations``: by topic what this user may do; ``missing``, ``forbidden``: names.

    ``nodes``: the brokers that this host reaches.
    """

    brokers: tuple[tuple[str, int], ...]
    topics: tuple[FoundTopic, ...]
    operations: Mapping[str, int]
    missing: tuple[str, ...]
    forbidden: tuple[str, ...]
    settings_unseen: tuple[str, ...]
    nodes: tuple[int, ...]

    @classmethod
    async def of(
        cls, client: AIOKafkaClient, connection: KafkaConnection, wanted: Mapping[str, Topic], nodes: Sequence[int]
    ) -> "_Cluster":
        declared = {connection.name(name): topic for name, topic in wanted.items()}
        answer = await client.send(nodes[0], TopicsRequest(list(declared)))
        said = answer.to_object()
        ours = {topic["topic"]: topic for topic in said["topics"]}
        there = [name for name, topic in ours.items() if topic["error_code"] not in (UNKNOWN_TOPIC, TOPIC_FORBIDDEN)]
        settings = await _settings(client, nodes[0], there)
        return cls(
            tuple((one["host"], one["port"]) for one in said["brokers"]),
            tuple(
                FoundTopic(name, declared[name], _partitions(ours[name]), settings.get(name)) for name in sorted(there)
            ),
            {name: topic["operations"] for name, topic in ours.items()},
            tuple(sorted(name for name, topic in ours.items() if topic["error_code"] == UNKNOWN_TOPIC)),
            tuple(sorted(name for name, topic in ours.items() if topic["error_code"] == TOPIC_FORBIDDEN)),
            tuple(sorted(name for name in there if name not in settings)),
            tuple(nodes),
        )


def _partitions(topic: Mapping[str, Any]) -> tuple[Partition, ...]:
    found = sorted(topic["partitions"], key=lambda one: int(one["partition"]))
    return tuple(Partition(one["leader"], tuple(one["replicas"]), tuple(one["isr"])) for one in found)


async def _settings(client: AIOKafkaClient, node: int, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings of these topics, those that are shown to this user."""
    if not names:
        return {}
    asked = DescribeConfigsRequest([(_TOPIC, name, None) for name in names])
    answer = await client.send(node, asked)
    return {
        resource["resource_name"]: {
            entry["config_names"]: entry["config_value"] for entry in resource["config_entries"]
        }
        for resource in answer.to_object()["resources"]
        if resource["error_code"] == 0
    }


async def _reach_brokers(
    client: AIOKafkaClient, options: Mapping[str, Any], known: set[tuple[str, int]], tell: Tell
) -> list[int]:
    """The brokers that are reached. Clients speak to the addresses that brokers advertise, others than the first."""

    async def reached(host: str, port: int) -> bool:
        return (host, port) in known or await _reach(host, port, options, "advertised address", tell)

    brokers = sorted(client.cluster.brokers(), key=lambda one: int(one.nodeId))
    answers = await asyncio.gather(*(reached(one.host, one.port) for one in brokers))
    return [int(one.nodeId) for one, answer in zip(brokers, answers, strict=True) if answer]


def _tell_topics(cluster: _Cluster, tell: Tell) -> None:
    if cluster.missing:
        tell(
            Finding(
                "topic_missing",
                some(cluster.missing),
                "There is no such topic, or this user may not know of it.",
                "Run transom topics; see that TRANSOM_TOPIC_PREFIX is that of the other services.",
            )
        )
    for topic in cluster.topics:
        for fault in topic_faults(topic, len(cluster.brokers)):
            tell(fault)
    ordered = {topic.name for topic in TOPICS}
    for fault in unequal_partitions([one for one in cluster.topics if one.declared.name in ordered]):
        tell(fault)
    if cluster.settings_unseen:
        tell(
            Finding(
                "topic_settings_unseen",
                some(cluster.settings_unseen),
                "This user may not see the topics' settings (DescribeConfigs): retention and the like were not looked"
                " at.",
                "Run doctor as the operator's user, which transom topics --acls gives that right.",
            )
        )


async def _tell_rights(
    client: AIOKafkaClient, connection: KafkaConnection, site: Site, cluster: _Cluster, tell: Tell
) -> None:
    for principal in _principals(site.services):
        lacks = {
            "write": _lacking(connection, cluster, principal.may_write, WRITE),
            "read": _lacking(connection, cluster, [*principal.reads, *principal.follows], READ),
            "describe": _lacking(connection, cluster, principal.counts, DESCRIBE),
        }
        for word, names in lacks.items():
            if names:
                tell(
                    Finding(
                        "topic_right_missing",
                        some(names),
                        f"This user may not {word} these topics, and {principal.name} does.",
                        "Run what transom topics --acls prints for the service, or give it the user that has the"
                        " rights.",
                    )
                )
    groups = [
        connection.name(f"{one.group or one.name}.{topic.name}")
        for one in _principals(site.services)
        for topic in one.reads
    ]
    if groups:
        await _tell_groups(client, cluster.nodes, groups, tell)


def _lacking(connection: KafkaConnection, cluster: _Cluster, topics: Sequence[Topic], operation: int) -> list[str]:
    names = list(dict.fromkeys(connection.name(topic.name) for topic in topics))
    return [
        name
        for name in names
        if name in cluster.forbidden
        or (name not in cluster.missing and not may(cluster.operations.get(name, 0), operation))
    ]


async def _tell_groups(client: AIOKafkaClient, nodes: Sequence[int], groups: Sequence[str], tell: Tell) -> None:
    """A broker refuses a group that this user may not see, whoever its coordinator is. That one knows the rest."""
    refused, known = set[str](), set[str]()
    for node in nodes:
        answer = await client.send(node, GroupsRequest(list(groups)))
        for group in answer.to_object()["groups"]:
            if group["error_code"] == 0:
                known.add(group["group"])
            if group["error_code"] == GROUP_FORBIDDEN or (
                group["error_code"] == 0 and not may(group["authorized_operations"], READ)
            ):
                refused.add(group["group"])
    if refused:
        tell(
            Finding(
                "group_right_missing",
                some(sorted(refused)),
                "This user may not read in these consumer groups.",
                "Run what transom topics --acls prints for the services.",
            )
        )
    if unknown := sorted(set(groups) - known - refused):
        tell(
            Finding(
                "rights_unseen",
                some(unknown),
                "No broker is the coordinator of these groups yet, so it was only seen that this user may see them.",
                "Start a service, then run doctor again.",
            )
        )
