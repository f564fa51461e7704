"""One garage and its customer as the story sees them: what is done is done from outside, and so is what is observed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import orjson

from deploy.local.demo.garage import Garage
from deploy.local.demo.topic_watcher import PublicEvent, StoryError, TopicWatcher
from deploy.local.sandbox.client import SandboxClient
from libs.common.clock import utc_now
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES, OUTBOUND_DECISIONS, OUTBOUND_INTENTS
from libs.common.kafka.producer import Producer, Record

Report = Callable[[str, str], None]
"""report(who, what) adds a line to the timeline."""
_LADDER = ("sent", "delivered", "read")


@dataclass(slots=True)
class Scene:
    """A garage in the story. A step that does not happen raises StoryError."""

    garage: Garage
    watcher: TopicWatcher
    producer: Producer
    sandbox: SandboxClient
    report: Report
    conversation_id: str = ""
    known: set[str] = field(default_factory=set)
    """The intents that the story has seen."""

    async def customer_writes(self, text: str) -> PublicEvent:
        """The customer writes on WhatsApp, which opens the window."""
        garage = self.garage
        wrote = await self.sandbox.customer_writes(garage.phone_number_id, garage.customer_phone, text=text)
        event = await self.inbound("the customer's message", lambda e: e["provider_id"] == wrote["wamid"])
        require(event["content"] == {"kind": "text", "text": text}, "the inbound message carries the customer's words")
        require(event["window"]["open"], "the customer's message opens the window")
        self.conversation_id = event["conversation_id"]
        return event

    async def customer_texts(self, text: str) -> PublicEvent:
        """The customer writes by SMS, into the same conversation."""
        garage = self.garage
        await self.sandbox.customer_texts(garage.customer_phone, garage.sms_number, text)
        event = await self.inbound(
            "the customer's SMS", lambda e: e["channel"] == "sms" and e["content"].get("text") == text
        )
        require(event["conversation_id"] == self.conversation_id, "the SMS stands in the same conversation")
        require(not event["window"]["open"], "an SMS does not open the WhatsApp window")
        return event

    async def inbound(self, what: str, matches: Callable[[PublicEvent], bool]) -> PublicEvent:
        """The customer's message that matches, once it is published."""
        org_id = self.garage.org_id
        return await self.watcher.wait_for(INBOUND_MESSAGES, what, lambda e: e["org_id"] == org_id and matches(e))

    async def agent_answers(self) -> tuple[str, str]:
        """The agent answers what the customer wrote last: the intent's id, and its text."""
        intent = await self.watcher.wait_for(
            OUTBOUND_INTENTS,
            f"the agent's answer to {self.garage.customer}",
            lambda e: (
                e.get("conversation_id") == self.conversation_id
                and e["actor"]["kind"] == "ai"
                and e["intent_id"] not in self.known
            ),
        )
        self.known.add(intent["intent_id"])
        return intent["intent_id"], intent["content"]["text"]

    async def says(self, text: str) -> str:
        """The AI has something to say without being asked; the intent's id."""
        return await self.intend("ai", {"kind": "text", "text": text})

    async def intend(self, actor: str, content: Mapping[str, Any]) -> str:
        """An intent for the conversation; its id."""
        intent_id = str(uuid4())
        self.known.add(intent_id)
        intent = {
            "type": "outbound.intent.v1",
            "intent_id": intent_id,
            "org_id": self.garage.org_id,
            "conversation_id": self.conversation_id,
            "actor": {
                "kind": actor,
                "user_id": "demo-advisor" if actor == "staff" else None,
                "capabilities": ["messages.send"] if actor == "staff" else [],
            },
            "content": content,
            "created_at": utc_now().isoformat(),
        }
        await self.producer.publish([Record(OUTBOUND_INTENTS, self.conversation_id.encode(), orjson.dumps(intent))])
        return intent_id

    async def decided(self, intent_id: str, route: str, reason: str, channel: str | None = None) -> PublicEvent:
        """The decision, which must be this one."""
        decision = await self.watcher.wait_for(
            OUTBOUND_DECISIONS, f"a decision on intent {intent_id}", lambda e: e["intent_id"] == intent_id
        )
        found = (decision["route"], decision["reason"], decision["attempt"])
        require(found == (route, reason, 1), f"the decision is {route}/{reason} at the first attempt, not {found}")
        require(channel in (None, decision["channel"]), f"the channel is {channel}, not {decision['channel']}")
        return decision

    async def status(self, message_id: str, status: str, *, reason: str | None = None, at_least: bool = False) -> None:
        """``at_least`` accepts a later status too, because Meta may leave out earlier ones."""
        fine = _LADDER[_LADDER.index(status) :] if at_least else (status,)
        update = await self.watcher.wait_for(
            DELIVERY_UPDATES,
            f"{status} of message {message_id}",
            lambda e: e["message_id"] == message_id and e["status"] in (*fine, "failed"),
        )
        require(
            update["status"] in fine and update["reason"] == reason,
            f"{status} {reason or ''} is published, not {update}",
        )

    async def was_read_in_portal(self, message_id: str) -> None:
        """The message becomes read on channel portal, whatever was published of it before."""
        update = await self.watcher.wait_for(
            DELIVERY_UPDATES,
            f"read of message {message_id}",
            lambda e: e["message_id"] == message_id and e["status"] == "read",
        )
        require(update["channel"] == "portal", "what was read in the portal is read on channel portal")

    async def sms_sent(self) -> list[dict[str, Any]]:
        """What the SMS provider sent from this garage's number, oldest first."""
        return [one for one in await self.sandbox.sms() if one["message"]["from"] == self.garage.sms_number]

    async def sms_count(self, expected: int) -> None:
        """Exactly so many SMS went out from this garage's number."""
        found = len(await self.sms_sent())
        require(found == expected, f"the SMS provider sent {expected} SMS for {self.garage.name}, not {found}")

    async def sandbox_has(
        self, ask: Callable[[], Awaitable[list[dict[str, Any]]]], is_it: Callable[[dict[str, Any]], bool], what: str
    ) -> dict[str, Any]:
        """The provider's record that matches, once there is one."""

        async def look() -> dict[str, Any] | None:
            return next((record for record in await ask() if is_it(record)), None)

        try:
            found: dict[str, Any] = await self.sandbox.until(look)
        except TimeoutError:
            raise StoryError(f"the provider never saw {what}") from None
        return found

    async def window_expires(self, closes_at: datetime) -> None:
        """Wait until the window is closed, also at Meta."""
        await asyncio.sleep(max((closes_at - utc_now()).total_seconds(), 0) + 0.2)
        metas = await self.sandbox.window(self.garage.phone_number_id, self.garage.customer_phone)
        require(
            metas["closes_at"] is not None and metas["closes_at"] <= utc_now().timestamp(), "Meta sees it closed too"
        )


def require(holds: bool, claim: str) -> None:  # noqa: FBT001 -- reads as a sentence where it is used
    """Raise StoryError, which names the claim, where it does not hold."""
    if not holds:
        raise StoryError(f"this does not hold: {claim}")
