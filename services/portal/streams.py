"""The streams of open pages: what is new in a conversation, without a reload.

The portal reads no topic. One task of the process asks PostgreSQL every ``PERIOD``, for ``AT_ONCE`` streams at a time:
which sessions still live, and a digest of the newest messages of each conversation. Where that changed, the messages
are read, and what a stream has not told yet is told, as ``event: message``. LISTEN and NOTIFY would cost every writer
of messages a lock that all commits of the database share, and every portal a connection. The question costs an open
stream some twenty index entries a second (docs/architecture/portal.md).

Rule 1: a stream ends as soon as its session has ended. While PostgreSQL is away it ends after ``UNCHECKED``.
Rule 2: a session has at most ``OF_A_SESSION`` streams in a process, and a process ``AT_ALL``.
Rule 3: an event's id is the mark of the page that has it (``marks``). After a reconnect the stream goes on behind
        Last-Event-ID. Where the page has not exactly what is stored up to there, ``event: reset`` asks for it again.
Rule 4: what a stream tells counts as read: pages keep one open only while they are visible. The outbox publishes it,
        so that Kafka holds up no question and no end of a session.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from uuid import UUID

from libs.common import metrics
from libs.common.db.pool import Pool
from libs.common.events.portal import PortalRead
from libs.common.pages.languages import Language
from libs.common.periodic import log_trouble
from libs.common.retryable import is_retryable
from services.portal import queries
from services.portal.html import Html
from services.portal.marks import known_to, mark_of
from services.portal.outbox import Outbox
from services.portal.rows import StoredMessage, Thread
from services.portal.threads import garage_of, shown_message, unread

PERIOD = 1.0
BEAT_SECONDS = 15.0
UNCHECKED_SECONDS = 30.0
NEWEST = 20
OF_A_SESSION = 3
AT_ALL = 1000
AT_ONCE = 50
_RESET = "id:\nevent: reset\ndata: {}\n\n"
_BEAT = ": \n\n"
_QUEUE = 100

_UNKNOWN = "unknown"


@dataclass(eq=False, slots=True)
class Stream:
    """One open page.

    ``told``: the state of each message as the page has it; None before the first look. ``mark``: where the page
    stands. ``digest``: that of the last look (``queries.digests_of``).
    """

    thread: Thread
    language: Language
    mark: str
    checked_at: float
    told: dict[UUID, str | None] | None = None
    digest: str | None = ""
    blocks: "asyncio.Queue[str | None]" = field(default_factory=lambda: asyncio.Queue(_QUEUE))

    def put(self, block: str | None) -> None:
        """Say this block, or end with None. A page that does not read any more is ended."""
        if self.blocks.full():
            while not self.blocks.empty():
                self.blocks.get_nowait()
            block = None
        self.blocks.put_nowait(block)


class Streams:
    """All streams of the process. ``watch`` runs beside the service."""

    def __init__(self, pool: Pool, outbox: Outbox, html: Html) -> None:
        self._pool = pool
        self._outbox = outbox
        self._html = html
        self._open: set[Stream] = set()
        self._of_session: Counter[bytes] = Counter()
        self._stopping = False

    def open(self, thread: Thread, language: Language, last_event_id: str | None) -> Stream | None:
        """A stream of this session. None: there are too many."""
        if self._stopping or len(self._open) >= AT_ALL or self._of_session[thread.session_hash] >= OF_A_SESSION:
            return None
        stream = Stream(thread, language, last_event_id or "", asyncio.get_running_loop().time())
        self._open.add(stream)
        self._of_session[thread.session_hash] += 1
        metrics.PORTAL_STREAMS.set(len(self._open))
        return stream

    async def events(self, stream: Stream) -> AsyncIterator[str]:
        """What the stream says, until its session, its page or the service ends."""
        try:
            yield "retry: 2000\n\n"
            while True:
                try:
                    async with asyncio.timeout(BEAT_SECONDS):
                        block = await stream.blocks.get()
                except TimeoutError:
                    block = _BEAT
                if block is None:
                    return
                yield block
        finally:
            self._close(stream)

    def end_all(self) -> None:
        """The service stops: pages connect again, elsewhere."""
        self._stopping = True
        for stream in self._open:
            stream.put(None)

    async def watch(self) -> None:
        """Look at all conversations again and again."""
        while not self._stopping:
            await asyncio.sleep(PERIOD)
            open_now = sorted(self._open, key=lambda stream: stream.thread.host)
            for host, of_host in groupby(open_now, key=lambda stream: stream.thread.host):
                streams = list(of_host)
                for first in range(0, len(streams), AT_ONCE):
                    await self._look_or_end(host, streams[first : first + AT_ONCE])

    async def _look_or_end(self, host: str, streams: Sequence[Stream]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await self._look(host, streams)
        except Exception as error:
            log_trouble("portal_streams", error)
            if not is_retryable(error):
                raise
        for stream in self._open:  # of all hosts: those that wait behind a slow question too
            if loop.time() - stream.checked_at > UNCHECKED_SECONDS:
                stream.put(None)

    async def _look(self, host: str, streams: Sequence[Stream]) -> None:
        hashes = [stream.thread.session_hash for stream in streams]
        now = self._pool.now()
        async with queries.scope(self._pool, host, sessions=hashes) as db:
            living = await queries.living(db, hashes, now)
            digests = await queries.digests_of(db, [stream.thread for stream in streams], NEWEST)
            changed = [
                (stream, digest)
                for stream, digest in zip(streams, digests, strict=True)
                if digest != stream.digest and stream.thread.session_hash in living
            ]
            newest = await queries.newest_of(db, [s.thread for s, _ in changed], NEWEST) if changed else []
        for stream in streams:
            if stream.thread.session_hash in living:
                stream.checked_at = asyncio.get_running_loop().time()
            else:
                stream.put(None)
        read: list[PortalRead] = []
        for (stream, digest), messages in zip(changed, newest, strict=True):
            stream.digest = digest
            if ids := unread(self._tell(stream, messages)):
                thread = stream.thread
                read.append(
                    PortalRead(org_id=thread.org_id, conversation_id=thread.conversation_id, message_ids=ids, at=now)
                )
        await self._outbox.put(read)

    def _tell(self, stream: Stream, messages: Sequence[StoredMessage]) -> list[StoredMessage]:
        """Say what changed since the last look; returns the messages that the page did not have."""
        if stream.told is None:
            known = known_to(stream.mark, messages) if stream.mark else 0
            stream.told = {m.message_id: _state(m) for m in messages[:known]}
            if known is None and messages:
                stream.put(_RESET)  # what comes after the page is loaded again
                return []
        fresh = [m for m in messages if m.message_id not in stream.told]
        changed = [m for m in messages if stream.told.get(m.message_id, _UNKNOWN) != _state(m)]
        for number, message in enumerate(changed, 1):
            stream.told[message.message_id] = _state(message)
            if number == len(changed):  # a page that has only some of them does not stand there yet
                stream.mark = mark_of(messages)
            shown, garage = shown_message(message), garage_of(stream.thread)
            stream.put(self._html.event(shown, garage, stream.language, stream.mark))
        return fresh

    def _close(self, stream: Stream) -> None:
        if stream in self._open:
            self._open.discard(stream)
            self._of_session[stream.thread.session_hash] -= 1
            if not self._of_session[stream.thread.session_hash]:
                del self._of_session[stream.thread.session_hash]
            metrics.PORTAL_STREAMS.set(len(self._open))


def _state(message: StoredMessage) -> str | None:
    return shown_message(message).state
