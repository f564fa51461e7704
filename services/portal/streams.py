"""The streams of open pages: what is new in a conversation, without a reload.

The portal reads no topic. One task of the process asks PostgreSQL every ``PERIOD``, for ``AT_ONCE`` streams at a time:
which sessions still live, and a digest of the newest messages of each conversation. Where that changed, the messages
are read, and what a stream has not told yet is told, as ``event: message``. LISTEN and NOTIFY would cost every writer
of messages a lock that all commits of the database share, and every portal a connection. The question costs an open
stream some twenty index entries a second (docs/architecture/portal.md).

Rule 1: a stream ends as soon as its session has ended. While PostgreSQL is away it ends after ``UNCHECKED_SECONDS``.
Rule 2: a session has at most ``OF_A_SESSION`` streams (``seats``), and a process ``AT_ALL``. A page has one.
Rule 3: an event's id is the mark of the page that has it (``marks``). After a reconnect the stream goes on behind
        Last-Event-ID. ``event: reset`` asks the page to read the conversation again: where it has not exactly what is
        stored up to there, and where more messages came than one look reads.
Rule 4: what a stream tells counts as read: pages keep one open only while they are visible. The outbox publishes it,
        so that Kafka holds up no question and no end of a session.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import inf
from uuid import UUID, uuid4

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
from services.portal.seats import BEAT_SECONDS, OF_A_SESSION, Seat, Seats
from services.portal.threads import garage_of, shown_message, unread

PERIOD = 1.0
UNCHECKED_SECONDS = 30.0
NEWEST = 20
LOOK_BACK = 2 * NEWEST
"""Messages that the first look of a stream reads: those that the page has, and those that came meanwhile."""
AT_ALL = 1000
AT_ONCE = 50
_RESET = "id:\nevent: reset\ndata: {}\n\n"
_BEAT = ": \n\n"
_QUEUE = 100


@dataclass(eq=False, slots=True)
class Stream:
    """One open page.

    ``told``: the newest messages as the page has them, with the place and the state of each; None before the first
    look. ``mark``: where the page stands. ``digest``: that of the last look (``queries.digests_of``).
    """

    thread: Thread
    seat: Seat
    language: Language
    mark: str
    checked_at: float
    told: dict[UUID, tuple[int, str | None]] | None = None
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

    def __init__(self, pool: Pool, outbox: Outbox, html: Html, seats: Seats) -> None:
        self._pool = pool
        self._outbox = outbox
        self._html = html
        self._seats = seats
        self._open: set[Stream] = set()
        self._of_session: Counter[bytes] = Counter()
        self._left: list[Seat] = []
        self._stopping = False

    @property
    def count(self) -> int:
        """How many are open in this process."""
        return len(self._open)

    async def open(
        self, thread: Thread, language: Language, last_event_id: str | None, page: str = ""
    ) -> Stream | None:
        """A stream of this session. None: there are too many. Whoever opens it closes it.

        ``page`` names the page: its stream before ends.
        """
        seat = Seat.of(thread.session_name.hex, page or uuid4().hex)
        for before in [one for one in self._open if (one.seat.session, one.seat.page) == (seat.session, seat.page)]:
            before.put(None)
            self.close(before)
        if self._stopping or len(self._open) >= AT_ALL or self._of_session[thread.session_hash] >= OF_A_SESSION:
            return None
        stream = Stream(thread, seat, language, last_event_id or "", asyncio.get_running_loop().time())
        self._open.add(stream)
        self._of_session[thread.session_hash] += 1
        metrics.PORTAL_STREAMS.set(len(self._open))
        await self._give_up_seats()
        if not await self._seats.take(seat):
            self.close(stream)
            return None
        return stream

    async def events(self, stream: Stream) -> AsyncIterator[str]:
        """What the stream says, until its session, its page or the service ends."""
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

    def close(self, stream: Stream) -> None:
        """The stream has ended, whatever ended it."""
        if stream in self._open:
            self._open.discard(stream)
            self._left.append(stream.seat)
            self._of_session[stream.thread.session_hash] -= 1
            if not self._of_session[stream.thread.session_hash]:
                del self._of_session[stream.thread.session_hash]
            metrics.PORTAL_STREAMS.set(len(self._open))

    async def keep_seats(self) -> None:
        """Tell Redis again and again which streams are open and which have ended; never returns."""
        told_at = -inf
        while True:
            await asyncio.sleep(PERIOD)
            await self._give_up_seats()
            if (now := asyncio.get_running_loop().time()) - told_at >= BEAT_SECONDS:
                told_at, open_now = now, list(self._open)
                for stream, kept in zip(open_now, await self._seats.keep([s.seat for s in open_now]), strict=True):
                    if not kept:
                        stream.put(None)

    def end_all(self) -> None:
        """The service stops: pages connect again, elsewhere."""
        self._stopping = True
        for stream in self._open:
            stream.put(None)

    async def _give_up_seats(self) -> None:
        left, self._left = self._left, []
        await self._seats.give_up(left)

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
            most = LOOK_BACK if any(stream.told is None for stream, _ in changed) else NEWEST
            newest = await queries.newest_of(db, [s.thread for s, _ in changed], most) if changed else []
        for stream in streams:
            if stream.thread.session_hash in living:
                stream.checked_at = asyncio.get_running_loop().time()
            else:
                stream.put(None)
        read: list[PortalRead] = []
        for (stream, digest), messages in zip(changed, newest, strict=True):
            stream.digest = digest
            if ids := unread(self._tell(stream, messages, whole=len(messages) < most)):
                thread = stream.thread
                read.append(
                    PortalRead(org_id=thread.org_id, conversation_id=thread.conversation_id, message_ids=ids, at=now)
                )
        await self._outbox.put(read)

    def _tell(self, stream: Stream, messages: Sequence[StoredMessage], *, whole: bool) -> list[StoredMessage]:
        """Say what changed since the last look; returns the messages that the page did not have.

        ``whole``: the conversation has no other messages that are shown.
        """
        told, now = stream.told, {m.message_id: (m.sequence, _state(m)) for m in messages}
        stream.told = now
        if told is None:
            known = known_to(stream.mark, messages) if stream.mark else 0
            told = {m.message_id: now[m.message_id] for m in messages[:known]}
            if known is None:
                told = None
        if told is None or (not whole and messages[0].message_id not in told):
            stream.put(_RESET)  # what comes after that is told to the page as it is read now
            return []
        oldest = 0 if whole else messages[0].sequence
        gone = [one for one, (place, _) in told.items() if one not in now and place >= oldest]
        changed = [(n, m) for n, m in enumerate(messages) if told.get(m.message_id) != now[m.message_id]]
        garage, left = garage_of(stream.thread), len(gone) + len(changed)
        for one in gone:
            left -= 1
            stream.put(self._html.gone(one, self._mark(stream, messages, left)))
        for number, message in changed:
            left -= 1
            before = messages[number - 1].message_id if number else None
            mark = self._mark(stream, messages, left)
            stream.put(self._html.event(shown_message(message), garage, stream.language, mark, before))
        return [m for _, m in changed if m.message_id not in told]

    @staticmethod
    def _mark(stream: Stream, messages: Sequence[StoredMessage], left: int) -> str:
        """Where the page stands once it has all but ``left`` changes of this look."""
        if not left:
            stream.mark = mark_of(messages)
        return stream.mark


def _state(message: StoredMessage) -> str | None:
    return shown_message(message).state
