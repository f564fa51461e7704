"""Load while a server or service is away: rounds of intents for open and closed conversations, and inbound messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.accounts import endings
from tests.support.garages import LATE, Customer, Garage
from tests.support.system import System

SENT, SILENT = ("failed", "window_expired_bridge_sent"), ("failed", "window_expired_bridge_already_sent")
MOST_ROUNDS = 40
ROUNDS_AFTER = 2
_OVERTAKEN = "select message_id from sends where org_id = $1 and blocks_order_until < settled_at"


@dataclass(slots=True)
class Load:
    """``open`` customers get every message as it is, ``closed`` ones a single bridge."""

    garage: Garage
    open: list[Customer]
    closed: list[Customer]
    rounds: list[list[dict[str, Any]]] = field(default_factory=list)
    wrote: list[str] = field(default_factory=list)

    @property
    def system(self) -> System:
        return self.garage.system

    @asynccontextmanager
    async def until_it_fell(self) -> AsyncIterator[None]:
        """The body runs while rounds come in, the first of them decided; two more come when it is through."""
        fell = asyncio.Event()
        loading = asyncio.create_task(self._load(fell))
        try:
            while not self.rounds:  # noqa: ASYNC110 -- the first round is ours
                await asyncio.sleep(0.01)
            await self.system.decided(self.rounds[0][-1]["intent_id"])
            yield
            fell.set()
            await loading
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    async def _load(self, fell: asyncio.Event) -> None:
        after = 0
        while after < ROUNDS_AFTER:
            after += fell.is_set()
            if not (len(self.rounds) < MOST_ROUNDS or after):
                await asyncio.sleep(0.01)
            else:
                self.rounds.append([who.intent(f"Round {len(self.rounds)}") for who in (*self.open, *self.closed)])
                await self.system.intend(*self.rounds[-1])
                writer, number = self.garage.customer(), self.garage.phone_number_id
                wrote = await self.system.sandbox.customer_writes(number, writer.phone, text="Hi")
                self.wrote.append(wrote["wamid"])

    async def settles(self) -> None:
        """Wait for the end of it all, and count: nothing is missing, nothing came twice, nothing out of order.

        A send whose outcome is unknown for longer than a minute holds back no other, so it may be overtaken.
        """
        system = self.system
        await system.decided(self.rounds[-1][-1]["intent_id"])
        await system.quiet()
        assert await endings(system, [intent for intents in self.rounds for intent in intents]) == {
            ("read", None): len(self.rounds) * len(self.open),
            SENT: len(self.closed),
            SILENT: (len(self.rounds) - 1) * len(self.closed),
        }
        overtaken = {str(row[0]) for row in await system.rows(_OVERTAKEN, self.garage.org_id)}
        for place, customer in enumerate(self.open):
            said = [sent["body"]["text"]["body"] for sent in await customer.whatsapps()]
            texts = [f"Round {number}" for number in range(len(self.rounds))]
            assert sorted(said) == sorted(texts), said
            intents = zip(texts, self.rounds, strict=True)
            late = {text for text, intents_of in intents if intents_of[place]["intent_id"] in overtaken}
            assert [one for one in said if one not in late] == [one for one in texts if one not in late], (said, late)
        assert [len(await customer.texts()) for customer in self.closed] == [1] * len(self.closed)
        assert [len(await customer.whatsapps()) for customer in self.closed] == [0] * len(self.closed)
        stored = "select count(*) from messages where org_id = $1 and provider_id = any($2)"
        assert await system.value(stored, self.garage.org_id, self.wrote) == len(set(self.wrote)) == len(self.rounds)
        for wamid in self.wrote:
            records = system.published.all("inbound.messages.v1", provider_id=wamid)
            assert len({record.event["message_id"] for record in records}) == 1


async def under_load(garage: Garage, *, open_: int = 10, closed: int = 10) -> Load:
    """The customers, ready; nothing is under way yet."""
    everybody = [garage.customer_who_wrote() for _ in range(open_)]
    everybody += [garage.customer_who_wrote(LATE) for _ in range(closed)]
    known = await asyncio.gather(*everybody)
    return Load(garage, known[:open_], known[open_:])
