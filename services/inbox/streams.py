"""The open streams of this process: how many there may be, what each has yet to be told, and when it ends.

Rule 1: a person has at most ``OF_A_PERSON`` streams, an organisation ``OF_AN_ORGANISATION`` and the process ``AT_ALL``.
        No organisation can take the places of all others.
Rule 2: a stream holds one chunk that its client has not taken yet, so a client that does not read costs one chunk. It
        is told nothing more meanwhile, and is ended when it takes nothing for ``SLOW_SECONDS``.
Rule 3: a stream ends with its token or session. As the service stops, streams end before everything else.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from libs.common import metrics
from libs.common.pages.languages import Language
from services.inbox import sse
from services.inbox.feed import Mark
from services.inbox.people import Person

OF_A_PERSON = 5
OF_AN_ORGANISATION = 200
AT_ALL = 1_000
SLOW_SECONDS = 10.0
BEAT_SECONDS = 15.0

TooMany = Literal["of_a_person", "of_an_organisation", "at_all"]


@dataclass(eq=False, slots=True)
class Stream:
    """One open stream.

    ``language`` is of the sentences in it. ``session``: the hash of the session that it belongs to; None of a bearer.
    It ``began`` behind the first mark. Everything up to ``mark`` has been told or stands in the chunk, and what time
    turned up to ``turned_to``. ``put_at``: since when its chunk waits, by the loop's clock.
    """

    person: Person
    language: Language
    session: bytes | None
    began: Mark
    mark: Mark
    turned_to: datetime
    ended: bool = False
    put_at: float = 0.0
    _chunk: bytes = b""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_busy(self) -> bool:
        """Whether its client has yet to take a chunk."""
        return bool(self._chunk)

    def put(self, chunk: bytes) -> None:
        """Add to what it is told next."""
        if chunk and not self.ended:
            if not self._chunk:
                self.put_at = asyncio.get_running_loop().time()
            self._chunk += chunk
            self._news.set()

    def end(self) -> None:
        """End it. What it was not told is told after it has connected again."""
        self.ended = True
        self._chunk = b""
        self._news.set()

    async def next(self) -> bytes:
        """What it is told next: a heartbeat where nothing is new, and nothing at the end."""
        if not self._news.is_set():
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                return sse.BEAT
        chunk, self._chunk = self._chunk, b""
        if not self.ended:
            self._news.clear()
        return chunk

    async def events(self) -> AsyncIterator[bytes]:
        """What the stream says, from its opening to its end."""
        yield sse.opening(self.began)
        while chunk := await self.next():
            yield chunk


class Streams:
    """All of them, by organisation."""

    def __init__(self) -> None:
        self._of_org: dict[str, set[Stream]] = {}
        self._of_person: Counter[tuple[str, str]] = Counter()
        self._count = 0
        self.stopping = False
        self.watched = asyncio.Event()
        """Set while there is a stream."""

    def __iter__(self) -> Iterator[Stream]:
        for streams in self._of_org.values():
            yield from streams

    def __len__(self) -> int:
        return self._count

    @property
    def organisations(self) -> "dict[str, set[Stream]]":
        """The streams of each organisation that is watched."""
        return self._of_org

    def why_not(self, person: Person) -> TooMany | None:
        """Why this person can have no further stream now."""
        if self._of_person[person.org_id, person.user_id] >= OF_A_PERSON:
            return "of_a_person"
        if len(self._of_org.get(person.org_id, ())) >= OF_AN_ORGANISATION:
            return "of_an_organisation"
        return "at_all" if self._count >= AT_ALL or self.stopping else None

    def add(self, stream: Stream) -> None:
        """Keep it until ``remove``."""
        self._of_org.setdefault(stream.person.org_id, set()).add(stream)
        self._of_person[stream.person.org_id, stream.person.user_id] += 1
        self._count += 1
        self.watched.set()
        metrics.INBOX_STREAMS.set(self._count)

    def remove(self, stream: Stream) -> None:
        """It is closed."""
        org_id, who = stream.person.org_id, (stream.person.org_id, stream.person.user_id)
        of_org = self._of_org.get(org_id)
        if of_org is None or stream not in of_org:
            return
        of_org.discard(stream)
        if not of_org:
            del self._of_org[org_id]
        self._of_person[who] -= 1
        if not self._of_person[who]:
            del self._of_person[who]
        self._count -= 1
        if not self._count:
            self.watched.clear()
        metrics.INBOX_STREAMS.set(self._count)

    def end_all(self) -> None:
        """The service stops: clients connect again, elsewhere."""
        self.stopping = True
        for stream in self:
            stream.end()

    def end_overdue(self, now: datetime) -> None:
        """End those whose token or session is over, and those whose client does not read."""
        tick = asyncio.get_running_loop().time()
        for stream in self:
            if now >= stream.person.ends_at:
                stream.end()
            elif stream.is_busy and tick - stream.put_at > SLOW_SECONDS:
                metrics.INBOX_STREAMS_DROPPED.inc()
                stream.end()
