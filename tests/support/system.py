"""The whole system for end-to-end tests: the four services as processes of their own, and a sandbox that plays the
providers.

The servers are the caller's: a topic prefix with its topics, a migrated database, a Redis database. Everything a
service does is seen from outside: on the topics, in the sandbox's ledger, in the tables, in its log.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from deploy.local.sandbox.client import SandboxClient
from deploy.local.servers.ports import LOOPBACK, free_port
from deploy.local.watchdog import Watchdog
from libs.common.events.topics import (
    DIRECTORY_CHANGES,
    OUTBOUND_INTENTS,
    OUTBOUND_REFUSED,
    OUTBOUND_SMS,
    OUTBOUND_WHATSAPP,
    PORTAL_MESSAGES,
    WEBHOOKS,
)
from tests.support.sandbox import (
    APP_SECRET,
    GRAPH_TOKEN,
    ROOT,
    TWILIO_SID,
    TWILIO_TOKEN,
    VERIFY_TOKEN,
    VONAGE_KEY,
    VONAGE_SECRET,
    VONAGE_SIGNATURE,
    launched,
)
from tests.support.service_logs import ServiceLogs
from tests.support.service_process import ServiceProcess
from tests.support.topic_records import PATIENCE_SECONDS, TopicRecords
from tests.support.topics import EVERY_TOPIC, commit_from_the_start

SERVICES = ("ingest", "router", "whatsapp-sender", "sms-bridge")
CONSUMED = {
    WEBHOOKS.name: "ingest",
    DIRECTORY_CHANGES.name: "ingest",
    PORTAL_MESSAGES.name: "ingest",
    OUTBOUND_INTENTS.name: "router",
    OUTBOUND_REFUSED.name: "router",
    OUTBOUND_WHATSAPP.name: "whatsapp-sender",
    OUTBOUND_SMS.name: "sms-bridge",
}
LINK_KEY = "link-key-of-the-tests-of-32-bytes-or-more"
DAY = 24 * 3600
_RESTLESS = (
    "select provider, state, published, tries, count(*) from sends where settled_at is null or not published"
    " group by 1, 2, 3, 4"
    " union all select 'meta', 'to be charged', false, 0, count(*) from message_pricing where charge_due"
    " having count(*) > 0"
    " union all select 'ingest', 'consent', false, 0, count(*) from consents where not published having count(*) > 0"
)


@dataclass(frozen=True, slots=True)
class Servers:
    """What a system runs on."""

    kafka_bootstrap: str
    topic_prefix: str
    postgres_dsn: str
    redis_url: str


class System:
    """A running system. ``settings`` are variables without their prefix; an async context manager."""

    def __init__(self, servers: Servers, watchdog: Watchdog, folder: Path, **settings: str) -> None:
        self.servers, self.folder, self._watchdog = servers, folder, watchdog
        self._logs = ServiceLogs(folder)
        self.code = ROOT
        """The folder whose code its services were begun with."""
        self._sandbox_port = free_port()
        sandbox = f"http://{LOOPBACK}:{self._sandbox_port}"
        wanted = {
            "KAFKA_BOOTSTRAP": servers.kafka_bootstrap,
            "TOPIC_PREFIX": servers.topic_prefix,
            "POSTGRES_DSN": servers.postgres_dsn,
            "REDIS_URL": servers.redis_url,
            "META_APP_SECRETS": f"an-older-secret,{APP_SECRET}",
            "META_VERIFY_TOKEN": VERIFY_TOKEN,
            "WHATSAPP_TOKEN": GRAPH_TOKEN,
            "GRAPH_BASE_URL": sandbox,
            "TWILIO_BASE_URL": sandbox,
            "TWILIO_ACCOUNT_SID": TWILIO_SID,
            "TWILIO_AUTH_TOKENS": TWILIO_TOKEN,
            "VONAGE_BASE_URL": sandbox,
            "VONAGE_API_KEY": VONAGE_KEY,
            "VONAGE_API_SECRET": VONAGE_SECRET,
            "VONAGE_SIGNATURE_SECRET": VONAGE_SIGNATURE,
            "PORTAL_LINK_KEYS": LINK_KEY,
            "PORTAL_URL": "https://portal.example",
            "HTTP_HOST": LOOPBACK,
            "LOG_FORMAT": "json",
            **settings,
        }
        self.env = {f"TRANSOM_{name}": value for name, value in wanted.items()}
        self.services = {name: self._process(name, name) for name in SERVICES}
        self.env["TRANSOM_PUBLIC_URL"] = self.services["ingest"].url
        self.sandbox = SandboxClient(sandbox)
        self.published = TopicRecords(servers.kafka_bootstrap, servers.topic_prefix)
        self.private: set[str] = {APP_SECRET, VERIFY_TOKEN, GRAPH_TOKEN, TWILIO_TOKEN, LINK_KEY}
        self.private |= {VONAGE_SECRET, VONAGE_SIGNATURE}
        """Words that no log line may hold. A test that makes a customer or a text adds its words."""
        self._rules: dict[str, Any] = {}
        """How the providers behave at the start."""
        self._producer: AIOKafkaProducer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            opening.push_async_callback(self._stop_all)
            for service in self.services.values():
                service.start(self.env)
            hooks = {"webhook-url": "/webhooks/meta", "sms-url": "/webhooks/twilio/sms"}
            hooks["vonage-sms-url"] = "/webhooks/vonage/sms"
            options = [
                word
                for name, path in hooks.items()
                for word in (f"--{name}", f"{self.env['TRANSOM_PUBLIC_URL']}{path}")
            ]
            opening.enter_context(launched("--port", str(self._sandbox_port), *options))
            await opening.enter_async_context(self.sandbox)
            self._rules = await self.sandbox.configure()
            await opening.enter_async_context(self.published)
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self.servers.kafka_bootstrap,
                enable_idempotence=True,
                metadata_max_age_ms=2_000,  # partitions may be added
            )
            await self._producer.start()
            opening.push_async_callback(self._producer.stop)
            self._offsets = await opening.enter_async_context(
                AIOKafkaConsumer(bootstrap_servers=self.servers.kafka_bootstrap)
            )
            self._admin = AIOKafkaAdminClient(bootstrap_servers=self.servers.kafka_bootstrap)
            await self._admin.start()
            opening.push_async_callback(self._admin.close)
            await asyncio.gather(*(service.ready() for service in self.services.values()))
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────

    def of_code(self, code: Path) -> Self:
        """The same with the services of another folder's code; the sandbox, and replicas that are added, stay ours."""
        self.code = code
        for service in self.services.values():
            service.code = code
        return self

    def add(self, service: str, name: str) -> ServiceProcess:
        """One more replica, not started yet."""
        self.services[name] = self._process(service, name)
        return self.services[name]

    async def start(self, *names: str, **settings: str) -> None:
        """Start these, with ``settings`` on top of the system's, and wait until they are ready."""
        changed = self.env | {f"TRANSOM_{name}": value for name, value in settings.items()}
        for name in names:
            self.services[name].start(changed)
        await asyncio.gather(*(self.services[name].ready() for name in names))

    async def mend(self) -> None:
        """Undo what an earlier test left: replicas, stopped or changed services, faults, held webhooks."""
        for name in [name for name in self.services if name not in SERVICES]:
            if self.services[name].runs:
                await self.services[name].stop()
            del self.services[name]
        others = [service for service in self.services.values() if service.runs and service.settings != self.env]
        await asyncio.gather(*(service.stop() for service in others))
        await self.sandbox.clear_faults()
        await self.sandbox.configure(**self._rules)
        await self.start(*(name for name in SERVICES if not self.services[name].runs))
        await self.sandbox.release_webhooks()
        await self.sandbox.retry_webhooks()

    def _process(self, service: str, name: str) -> ServiceProcess:
        return ServiceProcess(service, self.folder / f"{name}.log", self.env, self._watchdog)

    async def _stop_all(self) -> None:
        running = [service for service in self.services.values() if service.runs]
        await asyncio.gather(*(service.stop() for service in running))

    # ── what goes in ────────────────────────────────────────────────────────────────────────────────────────────────

    async def say(
        self,
        topic: str,
        *values: Mapping[str, Any] | bytes | None,
        key: str | None = None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Produce these, in order, in one go; return when all are acknowledged."""
        assert self._producer is not None
        acks = [
            await self._producer.send(
                self.servers.topic_prefix + topic,
                orjson.dumps(value) if isinstance(value, Mapping) else value,
                key=None if key is None else key.encode(),
                partition=partition,
                headers=list(headers),
            )
            for value in values
        ]
        await asyncio.gather(*acks)

    async def say_at_once(self, topic: str, *values: Mapping[str, Any], partition: int) -> None:
        """Produce these as one batch, which a consumer gets as a whole."""
        assert self._producer is not None
        batch = self._producer.create_batch()
        for value in values:
            assert batch.append(key=None, value=orjson.dumps(value), timestamp=None) is not None
        batch.close()
        await (await self._producer.send_batch(batch, self.servers.topic_prefix + topic, partition=partition))

    async def intend(self, *intents: Mapping[str, Any]) -> list[str]:
        """Produce intents, keyed as the contract says; their ids."""
        for intent in intents:
            await self.say(OUTBOUND_INTENTS.name, intent, key=intent.get("conversation_id"))
        return [intent["intent_id"] for intent in intents]

    # ── what comes out ──────────────────────────────────────────────────────────────────────────────────────────────

    async def decided(self, intent_id: str, attempt: int = 1) -> Mapping[str, Any]:
        """The decision on an attempt, as it was published."""
        return (await self.published.one("outbound.decisions.v1", intent_id=intent_id, attempt=attempt)).event

    async def way(self, intent_id: str, attempt: int = 1) -> tuple[str, str | None, str]:
        """Route, channel, reason."""
        found = await self.decided(intent_id, attempt)
        return found["route"], found["channel"], found["reason"]

    async def reaches(self, message_id: str, status: str) -> Mapping[str, Any]:
        """The update with this status of a message."""
        return (await self.published.one("delivery.updates.v1", message_id=message_id, status=status)).event

    async def fails(self, message_id: str) -> str:
        """The reason with which a message failed."""
        return str((await self.reaches(message_id, "failed"))["reason"])

    async def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database."""
        db = await asyncpg.connect(self.servers.postgres_dsn, timeout=10)
        try:
            return list(await db.fetch(statement, *arguments))
        finally:
            await db.close()

    async def value(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        found = await self.rows(statement, *arguments)
        return found[0][0] if found else None

    async def until(self, holds: Callable[[], Awaitable[Any]], what: str) -> Any:
        """Ask until the answer is true; answer it."""
        try:
            return await self.sandbox.until(holds, PATIENCE_SECONDS)
        except TimeoutError:
            raise AssertionError(f"did not come true: {what}") from None

    async def delivered(self) -> None:
        """Return when the providers have delivered all their webhooks, also those that they had to try again.

        A test that restarts a sender after an outage of ingest waits for this first. Otherwise the speed of the machine
        decides whether the providers try again within the second that the sender allows for settling.
        """

        async def none_under_way() -> bool:
            return bool((await self.sandbox.outstanding())["under_way"] == 0)

        await self.until(none_under_way, "the providers deliver what they could not deliver before")

    async def quiet(self) -> None:
        """Return when nothing is in flight: records are committed, sends are settled and published, webhooks delivered.

        Seen twice in a row with nothing new between. Every record has then come to ``published``, too.
        """
        seen: list[object] = [None]
        wait = "nothing was asked"

        async def twice_the_same() -> bool:
            nonlocal wait
            wait, standing = await self._standing()
            seen[:] = [*seen[-1:], standing]
            return standing is not None and seen[0] == standing

        try:
            await self.until(twice_the_same, "the system comes to rest")
        except AssertionError:
            raise AssertionError(f"the system does not come to rest: {wait}") from None
        await self.until(self._all_read, "every record comes to the test")

    async def _all_read(self) -> bool:
        """Whether ``published`` has what was published up to now, but for what was lost before it was read."""
        prefix = self.servers.topic_prefix
        ends = await self.ends(*(prefix + topic.name for topic in EVERY_TOPIC))
        first = await self._offsets.beginning_offsets(list(ends))
        return all(
            self.published.read_to(place.topic.removeprefix(prefix), place.partition) >= end or first[place] == end
            for place, end in ends.items()
        )

    async def _standing(self) -> tuple[str, object]:
        """What is under way, and how far everything has come, or None while something is under way."""
        ends = await self.behind(CONSUMED)
        if lags := {place: lag for place, (lag, _) in ends.items() if lag}:
            return f"not consumed: {lags}", None
        if restless := await self.rows(_RESTLESS):
            return f"not settled and published: {[tuple(row) for row in restless]}", None
        health = await self.sandbox.health()
        if health["under_way"] or health["held"]:
            return f"webhooks: {health}", None
        return "", (sorted((place, end) for place, (_, end) in ends.items()), health)

    async def behind(self, topics: Iterable[str]) -> dict[tuple[str, int], tuple[int, int]]:
        """For each partition of consumed topics: how many records are not committed, and its end."""
        assert self._admin is not None
        found: dict[tuple[str, int], tuple[int, int]] = {}
        for topic in topics:
            name = self.servers.topic_prefix + topic
            group = f"{self.servers.topic_prefix}{CONSUMED[topic]}.{topic}"
            committed = await self._admin.list_consumer_group_offsets(group)
            for place, end in (await self.ends(name)).items():
                done = committed[place].offset if place in committed else 0
                found[topic, place.partition] = (end - max(done, 0), end)
        return found

    async def ends(self, *names: str) -> dict[TopicPartition, int]:
        """The end of each partition of these topics, by their names on the broker."""
        assert self._admin is not None
        topics = await self._admin.describe_topics(list(names))
        places = [TopicPartition(topic["topic"], part["partition"]) for topic in topics for part in topic["partitions"]]
        found: dict[TopicPartition, int] = await self._offsets.end_offsets(places)
        return found

    async def lose(self, *topics: str) -> None:
        """What lies in these topics is gone, as when its retention has passed."""
        assert self._admin is not None
        for topic in topics:
            ends = await self.ends(self.servers.topic_prefix + topic)
            await self._admin.delete_records({place: RecordsToDelete(before_offset=end) for place, end in ends.items()})

    async def members(self, topic: str) -> int:
        """How many replicas share a consumed topic, 0 while they negotiate."""
        state, members = await self.group(topic)
        return members if state == "Stable" else 0

    async def group(self, topic: str) -> tuple[str, int]:
        """A group's state in Kafka's words, and its number of members, including those that were killed lately."""
        assert self._admin is not None
        group = f"{self.servers.topic_prefix}{CONSUMED[topic]}.{topic}"
        (answer,) = await self._admin.describe_consumer_groups([group])
        _error, _group, state, _type, _protocol, members, *_ = answer.groups[0]
        return state, len(members)

    async def forget_offsets(self) -> None:
        """As if nothing had ever been consumed. No service may run."""
        for topic, service in CONSUMED.items():
            group = f"{self.servers.topic_prefix}{service}.{topic}"
            places = await self.ends(self.servers.topic_prefix + topic)
            await commit_from_the_start(self.servers.kafka_bootstrap, group, list(places))

    def lines(self, name: str = "*") -> list[dict[str, Any]]:
        """Every log line, of every service or of one, each held against the schema."""
        return self._logs.lines(name)

    def leaks(self) -> list[str]:
        """Private words found in the logs."""
        return self._logs.holding(self.private)
