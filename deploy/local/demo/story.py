"""The story, step by step. Every step is a claim of the product; it is printed after it was observed from outside."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import orjson

from deploy.local.demo.garage import BUSINESS_PHONE, CUSTOMER_PHONE, PORTAL_HOST, TEMPLATE, Garage
from deploy.local.demo.topic_watcher import PublicEvent, StoryError, TopicWatcher
from deploy.local.sandbox.client import SandboxClient
from deploy.local.sandbox.segments import BASIC, EXTENDED
from libs.common.clock import utc_now
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES, OUTBOUND_DECISIONS, OUTBOUND_INTENTS
from libs.common.kafka.producer import Producer, Record

ONE_SEGMENT = 160
Report = Callable[[str, str], None]
"""report(who, what) adds a line to the timeline."""


@dataclass(slots=True)
class Story:
    """One run. ``play`` raises StoryError at the first step that does not happen."""

    garage: Garage
    watcher: TopicWatcher
    producer: Producer
    sandbox: SandboxClient
    report: Report
    conversation_id: str = ""

    async def play(self) -> None:
        """Inbound → session → read → window expires → bridge → silent → template → customer writes → session."""
        first = await self._customer_writes("Is my car ready?")
        self.conversation_id = first["conversation_id"]
        closes_at = datetime.fromisoformat(first["window"]["closes_at"])
        await self._session("Your Golf is ready.", until="read")
        await self._window_expires(closes_at)
        await self._bridge("Shall we keep it overnight?")
        await self._silent("Kim, are you there?")
        await self._template()
        await self._customer_writes("Sorry, here I am!")
        await self._session("No problem. The Golf waits for you.", until="delivered")

    async def _customer_writes(self, text: str) -> PublicEvent:
        before = self.watcher.count(INBOUND_MESSAGES)
        wrote = await self.sandbox.customer_writes(self.garage.phone_number_id, CUSTOMER_PHONE, text=text)
        event = await self.watcher.wait_for(
            INBOUND_MESSAGES, "the customer's message", lambda e: e["provider_id"] == wrote["wamid"]
        )
        _require(event["content"] == {"kind": "text", "text": text}, "the inbound message carries the customer's words")
        _require(event["window"]["open"], "the customer's message opens the window")
        self.report("customer", f"“{text}” on WhatsApp")
        self.report("window", f"open until {_clock(event['window']['closes_at'])}" + (", again" if before else ""))
        return event

    async def _session(self, text: str, until: str) -> None:
        intent_id = await self._intend("ai", {"kind": "text", "text": text})
        await self._decided(intent_id, "session", "window_open")
        for status in ("sent", "delivered", "read")[: ("sent", "delivered", "read").index(until) + 1]:
            await self._status(intent_id, status, at_least=True)
        sent = await self._sandbox_has(
            self.sandbox.messages, lambda m: str(m["callback"]).startswith(f"{intent_id}:1"), "the message"
        )
        _require(sent["body"]["text"]["body"] == text, "Meta got the reply word for word")
        self.report("AI agent", f"“{text}” → session message, {until}")

    async def _window_expires(self, closes_at: datetime) -> None:
        wait = (closes_at - utc_now()).total_seconds()
        await asyncio.sleep(max(wait, 0) + 0.2)
        metas = await self.sandbox.window(self.garage.phone_number_id, CUSTOMER_PHONE)
        _require(
            metas["closes_at"] is not None and metas["closes_at"] <= utc_now().timestamp(), "Meta sees it closed too"
        )
        self.report("window", f"expired at {_clock(closes_at.isoformat())}, the sandbox's day is short")

    async def _bridge(self, text: str) -> None:
        intent_id = await self._intend("ai", {"kind": "text", "text": text})
        await self._decided(intent_id, "bridge", "window_expired")
        sms = await self._sandbox_has(
            self.sandbox.sms, lambda m: m["message"]["to"] == CUSTOMER_PHONE, "the bridge SMS"
        )
        body = sms["message"]["body"]
        septets = sum(2 if letter in EXTENDED else 1 for letter in body)
        _require(set(body) <= BASIC | EXTENDED, "the bridge is written in GSM-7")
        _require(septets <= ONE_SEGMENT and sms["message"]["num_segments"] == "1", "the bridge fits one segment")
        _require(f"wa.me/{BUSINESS_PHONE[1:]}" in body, "the bridge carries the wa.me link")
        _require(
            re.search(rf"{re.escape(PORTAL_HOST)}/[0-9A-Za-z]{{8}}\b", body) is not None,
            "the bridge carries the portal link",
        )
        await self._status(intent_id, "failed", reason="window_expired_bridge_sent")
        await self._sms_count(1)
        self.report("AI agent", f"“{text}” → one bridge SMS instead ({septets} of {ONE_SEGMENT} septets)")
        self.report("SMS", _masked(body))

    async def _silent(self, text: str) -> None:
        intent_id = await self._intend("ai", {"kind": "text", "text": text})
        await self._decided(intent_id, "silent", "bridge_already_sent")
        await self._status(intent_id, "failed", reason="window_expired_bridge_already_sent")
        await self._sms_count(1)
        self.report("AI agent", f"“{text}” → silent, in the inbox: a bridge was sent already")

    async def _template(self) -> None:
        parameters = {"customer_name": "Kim", "appointment_time": "10:30"}
        content = {
            "kind": "template",
            "name": TEMPLATE["name"],
            "language": TEMPLATE["language"],
            "parameters": parameters,
        }
        intent_id = await self._intend("staff", content)
        decision = await self._decided(intent_id, "template", "template_requested")
        _require(not decision["window"]["open"], "the window is closed when the template goes")
        await self._status(intent_id, "delivered", at_least=True)
        self.report("staff", f"template {TEMPLATE['name']}, delivered")
        again = await self._intend("ai", {"kind": "text", "text": "One more thing."})
        decision = await self._decided(again, "silent", "bridge_already_sent")
        _require(not decision["window"]["open"], "a template does not open the window")
        self.report("window", "still closed: only a customer opens it")

    async def _intend(self, actor: str, content: Mapping[str, Any]) -> str:
        intent_id = str(uuid4())
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

    async def _decided(self, intent_id: str, route: str, reason: str) -> PublicEvent:
        decision = await self.watcher.wait_for(
            OUTBOUND_DECISIONS, f"a decision on intent {intent_id}", lambda e: e["intent_id"] == intent_id
        )
        found = (decision["route"], decision["reason"], decision["attempt"])
        _require(found == (route, reason, 1), f"the decision is {route}/{reason} at the first attempt, not {found}")
        return decision

    async def _status(self, message_id: str, status: str, *, reason: str | None = None, at_least: bool = False) -> None:
        """``at_least`` accepts a later status too, because Meta may leave out earlier ones."""
        ladder = ("sent", "delivered", "read")
        fine = ladder[ladder.index(status) :] if at_least else (status,)
        update = await self.watcher.wait_for(
            DELIVERY_UPDATES,
            f"{status} of message {message_id}",
            lambda e: e["message_id"] == message_id and e["status"] in (*fine, "failed"),
        )
        _require(
            update["status"] in fine and update["reason"] == reason,
            f"{status} {reason or ''} is published, not {update}",
        )

    async def _sms_count(self, expected: int) -> None:
        found = len(await self.sandbox.sms())
        _require(found == expected, f"the SMS provider sent {expected} SMS, not {found}")

    async def _sandbox_has(
        self, ask: Callable[[], Awaitable[list[dict[str, Any]]]], is_it: Callable[[dict[str, Any]], bool], what: str
    ) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            return next((record for record in await ask() if is_it(record)), None)

        try:
            found: dict[str, Any] = await self.sandbox.until(look)
        except TimeoutError:
            raise StoryError(f"the provider never saw {what}") from None
        return found


def _require(holds: bool, claim: str) -> None:  # noqa: FBT001 -- reads as a sentence where it is used
    if not holds:
        raise StoryError(f"this does not hold: {claim}")


def _clock(instant: str) -> str:
    return datetime.fromisoformat(instant).astimezone().strftime("%H:%M:%S")


def _masked(body: str) -> str:
    return re.sub(rf"({re.escape(PORTAL_HOST)}/)[0-9A-Za-z]{{8}}", r"\1········", body)
