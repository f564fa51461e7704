"""What is new in the conversations of an organisation, told to everybody who has a stream open.

A feed (``services.inbox.feed``) says what is new, and PostgreSQL what it is. One follower of the topics in the process
says when it is worth asking: a record of an organisation that somebody watches. The inbox worker adds the record to
the feed a moment later, so it is asked for several times within a second. What was missed is found by the next pulse.

Rule 1: everything that is told comes from the feed, in its order, the first event and the thousandth alike. So a stream
        that begins at Last-Event-ID misses nothing, and the topics' records are never told themselves.
Rule 2: an id that is unknown, or older than the feed is kept, gets ``reset``: the client loads everything anew.
Rule 3: what time alone changes (a window that closes, a hold that ends) is told with every pulse, by the same rule.
Rule 4: nobody waits for anybody: a busy stream is left out of a round, and one organisation's trouble is its own.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from uuid import UUID

import orjson
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from libs.common.db.pool import Pool
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    DIRECTORY_CHANGES,
    INBOUND_MESSAGES,
    INBOX_NOTICES,
    OUTBOUND_DECISIONS,
)
from libs.common.forgetting import forget_all
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.records import RawRecord
from libs.common.kafka.topic_tail import TopicTail
from libs.common.pages.languages import Language
from libs.common.periodic import log_trouble, run_periodically, until_beat
from libs.common.retryable import is_retryable
from services.inbox import feed_queries, sse
from services.inbox.feed import Mark, StoredChange
from services.inbox.people import Person
from services.inbox.problems import Problem
from services.inbox.sessions import Sessions
from services.inbox.streams import Stream, Streams
from services.inbox.telling import Teller, Told
from services.inbox.windows import WindowRule

TOPICS = (INBOUND_MESSAGES, DELIVERY_UPDATES, OUTBOUND_DECISIONS, DIRECTORY_CHANGES, INBOX_NOTICES)
PULSE_SECONDS = 1.0
CHECK_SECONDS = 2.0
"""A session that was ended elsewhere ends its streams within this time and a pulse."""
ALONE_SECONDS = 60.0
"""The topics are followed for so long after the last stream has ended."""
UNSEEN_SECONDS = 30.0
"""So long streams stay open while PostgreSQL is away."""
LOOKS = (0.01, 0.03, 0.06, 0.12, 0.25, 0.5)
"""After a record was seen, when its organisation's feed is asked: the worker stores it at about that time."""
MOST_BEHIND = 5_000
TOLD_AT_ONCE = 4
"""Organisations whose news is read side by side: connections are left for pages."""
AT_ONCE = 100
"""Changes that a stream is told in one piece, and feeds asked in one round trip."""


@dataclass(slots=True)
class Wakes:
    """Which organisations are to be looked at, and when, by the loop's clock."""

    due: dict[str, tuple[float, int]] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self, org_id: str, now: float) -> None:
        """Look at it as often as ``LOOKS`` says. A first look that is due already stays."""
        if self.due.get(org_id, (0.0, 1))[1] > 0:
            self.due[org_id] = now + LOOKS[0], 0
            self.news.set()

    def take(self, now: float) -> set[str]:
        """Those whose time has come; their next time is noted."""
        found = {org_id for org_id, (at, _) in self.due.items() if at <= now}
        for org_id in found:
            _, look = self.due.pop(org_id)
            if look + 1 < len(LOOKS):
                self.due[org_id] = now + LOOKS[look + 1] - LOOKS[look], look + 1
        return found

    def next_at(self, pulse: float) -> float:
        """When the next look is due, at the latest with the pulse."""
        return min([pulse, *(at for at, _ in self.due.values())])


class Live:
    """All streams of the process. ``watch`` and ``follow`` run beside the service."""

    def __init__(
        self,
        pool: Pool,
        kafka: KafkaConnection,
        sessions: Sessions,
        teller: Teller,
        rule: WindowRule,
    ) -> None:
        self.streams = Streams()
        self._pool = pool
        self._kafka = kafka
        self._sessions = sessions
        self._teller = teller
        self._rule = rule
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._skipped: set[str] = set()
        self._turns = asyncio.Semaphore(TOLD_AT_ONCE)
        self._wakes = Wakes()
        self._seen_at = 0.0
        self._watched_at = 0.0

    async def open(
        self, person: Person, language: Language, last_event_id: str | None, session: bytes | None
    ) -> Stream:
        """A stream of this person behind the event that their client has seen last. ``session``: of their cookie.

        ``respond`` answers with it. Raises Problem where the person can have none now, Transient while PostgreSQL is
        away.
        """
        self._admit(person)
        if person.ends_at <= self._pool.now():  # within the leeway of tokens
            raise Problem(HTTPStatus.UNAUTHORIZED, "the token has expired")
        async with self._pool.acquire() as db:
            newest, turned_to = await feed_queries.newest_mark(db, person.org_id), self._pool.now()
            mark, known = newest, Mark.read(last_event_id)
            if known is not None and _is_near(known, newest):
                mark = known
                turned_to = await feed_queries.stored_at(db, person.org_id, mark.change) or (
                    turned_to - feed_queries.KEPT
                )
        self._admit(person)  # others came while we asked
        stored = None if session is None else self._sessions.stored(session)
        stream = Stream(person, language, stored, mark, mark, turned_to)
        if last_event_id and mark is not known:
            stream.put(sse.event("reset", mark, {}))
        self.streams.add(stream)
        self._wakes.wake(person.org_id, asyncio.get_running_loop().time())
        return stream

    def respond(self, stream: Stream) -> Response:
        """The answer that is the stream."""
        return _StreamAnswer(self.streams, stream)

    async def mark(self, org_id: str) -> str:
        """Where a stream may begin that misses nothing of what changes from now on. A page reads it before the rest."""
        async with self._pool.acquire() as db:
            return str(await feed_queries.newest_mark(db, org_id))

    def _admit(self, person: Person) -> None:
        match self.streams.why_not(person):
            case None:
                return
            case "at_all":
                raise Problem(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "this process serves as many streams as it can: try again",
                    headers={"Retry-After": "5"},
                )
            case "of_a_person":
                detail = "too many streams of this person are open: close one"
            case "of_an_organisation":
                detail = "too many streams of this organisation are open"
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": "30"})

    def end_all(self) -> None:
        """The service stops: streams end before everything else."""
        self.streams.end_all()
        self._wakes.news.set()

    async def forget(self) -> None:
        """Delete the changes that no stream can begin at any more."""
        await forget_all(self._pool, feed_queries.forget, self._pool.now() - feed_queries.KEPT)

    async def follow(self) -> None:
        """Follow the topics while somebody watches, for ever. While Kafka is away the pulse finds what is new."""
        await run_periodically("inbox_tail", timedelta(seconds=PULSE_SECONDS), self._follow)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        await self.streams.watched.wait()
        async with TopicTail(self._kafka, TOPICS, self._watched, is_over=self._is_alone) as tail:
            async for org_id in tail:
                self._wakes.wake(org_id, loop.time())

    def _is_alone(self) -> bool:
        """Nobody has watched for a while: who only turns a page is back at once."""
        return not self.streams and asyncio.get_running_loop().time() - self._watched_at > ALONE_SECONDS

    def _watched(self, record: RawRecord) -> str | None:
        """The organisation of the record, where somebody watches it."""
        watched = self.streams.organisations
        if not watched:
            return None
        try:
            event = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            return None  # a dead letter of the worker
        org_id = event.get("org_id") if isinstance(event, dict) else None
        return org_id if isinstance(org_id, str) and org_id in watched else None

    async def watch(self) -> None:
        """Look at what is new again and again, until the service stops."""
        loop = asyncio.get_running_loop()
        self._seen_at = loop.time()
        pulse = check = loop.time()
        while not self.streams.stopping:
            wait = self._wakes.next_at(pulse) - loop.time()
            if wait > 0:
                try:
                    async with asyncio.timeout(wait):
                        await self._wakes.news.wait()
                except TimeoutError:
                    pass
                self._wakes.news.clear()
                continue
            now = loop.time()
            due, beats, checks = self._wakes.take(now), now >= pulse, now >= check
            if beats:
                pulse = now + until_beat(PULSE_SECONDS)
                self.streams.end_overdue(self._pool.now())
                self._watched_at = now if self.streams else self._watched_at
                due = set(self.streams.organisations)
            if checks:
                check = now + CHECK_SECONDS
            await self._round(sorted(due), turns=beats, checks=checks)

    async def _round(self, org_ids: Sequence[str], *, turns: bool, checks: bool) -> None:
        loop = asyncio.get_running_loop()
        try:
            for first in range(0, len(org_ids), AT_ONCE):
                await self._look(org_ids[first : first + AT_ONCE], turns=turns)
            if checks:
                await self._end_sessions()
            self._seen_at = loop.time()
        except Exception as error:
            log_trouble("inbox_streams", error)
            if not is_retryable(error):
                raise
            if loop.time() - self._seen_at > UNSEEN_SECONDS:
                for stream in self.streams:
                    stream.end()
            await asyncio.sleep(PULSE_SECONDS)

    async def _end_sessions(self) -> None:
        sessions = {stream.session for stream in self.streams if stream.session is not None}
        if not sessions:
            return
        living = await self._sessions.living(sessions)
        for stream in self.streams:
            if stream.session is not None and stream.session in sessions and stream.session not in living:
                stream.end()

    async def _look(self, org_ids: Sequence[str], *, turns: bool) -> None:
        """One look at these organisations' feeds, for all streams that can take more."""
        now = self._pool.now()
        self._skipped |= self._telling.keys() & set(org_ids)
        streams = [
            stream
            for org_id in org_ids
            if org_id not in self._telling
            for stream in self.streams.organisations.get(org_id, ())
            if not stream.is_busy and not stream.ended
        ]
        if not streams:
            return
        seen = list({(s.person.org_id, s.mark.change) for s in streams})
        since = list({(s.person.org_id, s.turned_to) for s in streams}) if turns else []
        async with self._pool.acquire() as db:
            news = await feed_queries.since(db, seen, AT_ONCE)
            turned = await feed_queries.turned(
                db, since, now, length=self._rule.usable, closing_soon=self._rule.closing_soon
            )
        told: dict[str, list[_Told]] = defaultdict(list)
        for stream in streams:
            org_id = stream.person.org_id
            new = news.get((org_id, stream.mark.change))
            by_time = turned.get((org_id, stream.turned_to), [])
            if new is not None or by_time:
                told[org_id].append(_Told(stream, new, by_time, stream.turned_to))
            if turns:
                stream.turned_to = now
        for org_id, of_org in told.items():
            self._telling[org_id] = asyncio.create_task(self._tell_or_reset(org_id, of_org))

    async def _tell_or_reset(self, org_id: str, told: Sequence["_Told"]) -> None:
        """Tell one organisation's streams, beside the others. What fails for a while is told with a later look."""
        try:
            async with self._turns:
                await self._tell(org_id, told)
        except Exception as error:  # noqa: BLE001 -- what cannot be told is not tried for ever, and harms nobody else
            log_trouble("inbox_streams", error)
            for one in told:
                if is_retryable(error):
                    one.stream.turned_to = one.turned_from
                else:
                    one.reset()
        finally:
            del self._telling[org_id]
            if org_id in self._skipped:
                self._skipped.discard(org_id)
                self._wakes.wake(org_id, asyncio.get_running_loop().time())

    async def _tell(self, org_id: str, told: Sequence["_Told"]) -> None:
        for one in told:
            if one.has_gap:
                one.reset()
        wanted: dict[UUID, set[UUID]] = defaultdict(set)
        for one in told:
            for conversation_id in one.turned:
                wanted[conversation_id].update()
            for change in one.changes:
                messages = wanted[change.conversation_id]
                if change.message_id is not None:
                    messages.add(change.message_id)
        news = [Told(conversation_id, ids) for conversation_id, ids in wanted.items()]
        states = await self._teller.states_of(org_id, [one.stream for one in told], news)
        chunks: dict[tuple[Mark, Mark, int, int], bytes] = {}
        for one, state in zip(told, states, strict=True):
            before, after = one.stream.mark, one.after
            key = before, after, id(one.turned), id(state)
            if key not in chunks:
                chunks[key] = sse.told(after, one.changes, one.turned, state)
            one.stream.mark = after
            one.stream.put(chunks[key])
            if one.news is not None and one.news.last > after.change:
                self._wakes.wake(org_id, asyncio.get_running_loop().time())


class _StreamAnswer(StreamingResponse):
    """Events until the stream ends. Its place is free again as soon as the client has left."""

    def __init__(self, streams: Streams, stream: Stream) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(stream.events(), media_type="text/event-stream", headers=headers)
        self._streams, self._stream = streams, stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":  # now, for who comes back is faster than the end of the answer
                self._streams.remove(self._stream)
            return message

        try:
            await super().__call__(scope, received, send)
        finally:
            self._streams.remove(self._stream)


@dataclass(slots=True)
class _Told:
    """What one stream is to be told now: changes of its feed, and conversations that time ``turned`` since then."""

    stream: Stream
    news: feed_queries.News | None
    turned: Sequence[UUID]
    turned_from: datetime

    @property
    def changes(self) -> Sequence[StoredChange]:
        return () if self.news is None else self.news.changes

    @property
    def after(self) -> Mark:
        """Where the stream stands when it was told."""
        return Mark(self.stream.mark.feed, self.changes[-1].change) if self.changes else self.stream.mark

    @property
    def has_gap(self) -> bool:
        """Whether some of what is new is forgotten already."""
        if self.news is None:
            return False
        return self.news.oldest is None or self.news.oldest > self.stream.mark.change + 1

    def reset(self) -> None:
        """Tell the client to load everything anew; the stream goes on behind the newest change."""
        if self.news is not None:
            self.stream.mark = Mark(self.news.feed, self.news.last)
            self.stream.put(sse.event("reset", self.stream.mark, {}))
            self.news = None
            self.turned = ()


def _is_near(known: Mark, newest: Mark) -> bool:
    """Whether a stream can begin behind this mark: it is of this feed, and not too much is new."""
    return known.feed == newest.feed and 0 <= newest.change - known.change <= MOST_BEHIND
