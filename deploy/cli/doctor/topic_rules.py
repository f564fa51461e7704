"""What is wrong with a topic as the brokers have it, against its declaration. Pure.

The declared numbers are those of ``libs.common.events.topics``. An operator may have overridden partitions and
retention, so a difference that works is no error.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from deploy.cli.doctor.findings import Finding, some
from libs.common.events.topics import Topic

_SAFE_REPLICAS = 3
_LEAST_RETENTION = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as the brokers have it. ``leader`` is below 0 where there is none."""

    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic with its name on the brokers. ``settings``: None where they were not shown."""

    name: str
    declared: Topic
    partitions: tuple[Partition, ...]
    settings: Mapping[str, str] | None = None


def topic_faults(found: FoundTopic, brokers: int) -> Iterator[Finding]:
    """Everything about one topic. ``brokers``: how many the cluster has."""
    yield from _partitions(found)
    yield from _replicas(found, brokers)
    if found.settings is not None:
        yield from _settings(found, found.settings)


def unequal_partitions(found: Sequence[FoundTopic]) -> Iterator[Finding]:
    """Topics that carry conversations have as many partitions as each other; dead letters need no order."""
    counts: dict[int, list[str]] = {}
    for one in found:
        counts.setdefault(len(one.partitions), []).append(one.name)
    if len(counts) > 1:
        words = "; ".join(f"{some(names, 3)}: {count}" for count, names in sorted(counts.items()))
        yield Finding(
            "partitions_unequal",
            "topics",
            f"Their numbers of partitions differ: {words}.",
            f"Give all the most: transom topics --partitions {max(counts)} (docs/architecture/partitions.md).",
        )


def _partitions(found: FoundTopic) -> Iterator[Finding]:
    count, declared = len(found.partitions), found.declared.partitions
    if count < declared:
        yield Finding(
            "partitions_few",
            found.name,
            f"It has {count} partitions and {declared} are declared, so fewer replicas can share the work.",
            f"Run transom topics --partitions {declared} (docs/architecture/partitions.md says how it is done safely).",
        )
    if count > declared:
        yield Finding("partitions_many", found.name, f"It has {count} partitions, more than the {declared} declared.")
    if headless := [number for number, one in enumerate(found.partitions) if one.leader < 0]:
        yield Finding(
            "partition_leaderless",
            found.name,
            f"Partition {some([str(number) for number in headless])} has no leader: nothing is read or written there.",
            "Bring back the brokers that hold its replicas.",
        )
    if behind := [number for number, one in enumerate(found.partitions) if len(one.in_sync) < len(one.replicas)]:
        yield Finding(
            "partition_behind",
            found.name,
            f"Replicas of partition {some([str(number) for number in behind])} are not in sync.",
            "See which broker is away or slow.",
        )


def _replicas(found: FoundTopic, brokers: int) -> Iterator[Finding]:
    factor = min((len(one.replicas) for one in found.partitions), default=0)
    wanted = min(brokers, _SAFE_REPLICAS)
    if brokers == 1:
        return
    if factor < wanted:
        yield Finding(
            "replication_low",
            found.name,
            f"Its partitions have {factor} replicas on a cluster of {brokers} brokers.",
            f"Raise the replication factor to {wanted} (kafka-reassign-partitions.sh).",
        )


def _settings(found: FoundTopic, settings: Mapping[str, str]) -> Iterator[Finding]:
    factor = min((len(one.replicas) for one in found.partitions), default=1)
    yield from _in_sync(found, settings, factor)
    yield from _retention(found, settings)
    if "compact" in settings.get("cleanup.policy", "delete"):
        yield Finding(
            "cleanup_compacts",
            found.name,
            "It is compacted: of each conversation only the last record would stay.",
            "Set cleanup.policy=delete.",
        )
    if found.declared.from_outside and settings.get("message.timestamp.type") == "CreateTime":
        yield Finding(
            "producers_clock",
            found.name,
            "Its records have their producers' time: where that is wrong they are deleted unread, or refused.",
            "Set message.timestamp.type=LogAppendTime.",
        )
    size = _number(settings.get("max.message.bytes"))
    if size is not None and size < found.declared.max_record_bytes:
        yield Finding(
            "record_size_low",
            found.name,
            f"It takes records of {size:,} bytes, and records may have {found.declared.max_record_bytes:,}.",
            f"Set max.message.bytes={found.declared.max_record_bytes}.",
        )
    if settings.get("unclean.leader.election.enable") == "true":
        yield Finding(
            "unclean_election",
            found.name,
            "A replica that is behind may become the leader, and acknowledged records are lost then.",
            "Set unclean.leader.election.enable=false.",
        )


def _in_sync(found: FoundTopic, settings: Mapping[str, str], factor: int) -> Iterator[Finding]:
    least = _number(settings.get("min.insync.replicas"))
    if least is None:
        return
    if least > factor:
        yield Finding(
            "insync_impossible",
            found.name,
            f"min.insync.replicas is {least} and there are {factor} replicas, so every write is refused.",
            f"Set min.insync.replicas={max(1, factor - 1)}, or add replicas.",
        )
    elif factor >= _SAFE_REPLICAS and least < 2:  # noqa: PLR2004 -- of three, two
        yield Finding(
            "insync_low",
            found.name,
            f"A write counts when {least} of {factor} replicas has it. With that broker its records are lost.",
            "Set min.insync.replicas=2.",
        )
    elif least == factor > 1:
        yield Finding(
            "insync_blocks",
            found.name,
            f"All {factor} replicas must take a write, so one broker that is away stops it.",
            f"Set min.insync.replicas={factor - 1}.",
        )


def _retention(found: FoundTopic, settings: Mapping[str, str]) -> Iterator[Finding]:
    kept = _number(settings.get("retention.ms"))
    declared = found.declared.retention
    if kept is not None and 0 <= kept < declared.total_seconds() * 1000:
        time = timedelta(milliseconds=kept)
        short = time < _LEAST_RETENTION
        yield Finding(
            "retention_too_short" if short else "retention_short",
            found.name,
            f"Records are kept for {_words(time)}, and {_words(declared)} are declared."
            + (" An outage of that length loses what was not read." if short else ""),
            f"Set retention.ms={int(declared.total_seconds() * 1000)}.",
        )
    size = _number(settings.get("retention.bytes"))
    if size is not None and size >= 0:
        yield Finding(
            "retention_by_size",
            found.name,
            f"A partition is also cut at {size:,} bytes, whether its records were read or not.",
            "Set retention.bytes=-1, and watch the disk.",
        )


def _words(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{time.days} days" if time.days and not time.seconds else f"{hours:.4g} hours"


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
