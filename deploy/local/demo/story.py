"""The story, step by step. Every step is a claim of the product; it is printed after it was observed from outside."""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from deploy.local.demo.agent import CANNED
from deploy.local.demo.garage import TEMPLATE
from deploy.local.demo.scene import Scene, require
from deploy.local.demo.topic_watcher import StoryError
from deploy.local.portal_visitor import PortalVisitor
from deploy.local.queries import Spent
from deploy.local.sandbox.segments import BASIC, EXTENDED

ONE_SEGMENT = 160
CODE = r"[0-9A-Za-z]{11}"
_LINK = re.compile(rf"Portal: (\S+)/({CODE})\b")
Moment = Literal["open", "expired", "end"]


@dataclass(slots=True)
class Story:
    """One run. ``play`` raises StoryError at the first step that does not happen.

    ``portal_scheme``: of the platform's portal. ``spend`` asks what was charged. ``look`` is called at moments that
    are worth a look.
    """

    acme: Scene
    bolt: Scene
    crown: Scene
    dusty: Scene
    portal_scheme: str
    spend: Callable[[], Awaitable[Sequence[Spent]]]
    look: Callable[[Moment], Awaitable[None]]

    async def play(self) -> None:
        """Window open → session → window expires → bridge → silent → template → open again; and three more garages."""
        acme = self.acme
        closes_at = await self._customers_write()
        await self.look("open")
        await self._others_are_answered()
        await self._session("Your Golf is ready.", until="read")
        await acme.window_expires(closes_at)
        acme.report("window", f"expired at {_clock(closes_at.isoformat())}, the sandbox's day is short")
        await self._bridge(acme, "Shall we keep it overnight?")
        await self._silent("Kim, are you there?")
        await self.look("expired")
        await self._answered_by_sms()
        await self._continued_in_the_portal()
        await self._exhausted()
        await self._template()
        again = await acme.customer_writes("Sorry, here I am!")
        acme.report("customer", "“Sorry, here I am!” on WhatsApp")
        acme.report("window", f"open until {_clock(again['window']['closes_at'])}, again")
        await self._session(
            "No problem. The Golf waits for you. While you were away we wrote: “Shall we keep it overnight?”"
            " “Kim, are you there?” “One more thing.”",
            until="delivered",
        )
        await self._spent()
        await self.look("end")

    async def _customers_write(self) -> datetime:
        """All four customers write on WhatsApp; when the last of their windows closes."""
        closes = []
        for scene in (self.acme, self.bolt, self.crown, self.dusty):
            event = await scene.customer_writes("Is my car ready?")
            closes.append(datetime.fromisoformat(event["window"]["closes_at"]))
        self.acme.report("customer", "“Is my car ready?” on WhatsApp; so do customers of three other garages")
        self.acme.report("window", f"open until {_clock(closes[0].isoformat())}")
        return max(closes)

    async def _others_are_answered(self) -> None:
        """The agent answers in the other garages too; where the credit is exhausted, with the canned reply."""
        for scene in (self.bolt, self.crown, self.dusty):
            intent_id, text = await scene.agent_answers()
            require(
                (text == CANNED) == (scene is self.dusty), "the canned reply stands in where the credit is exhausted"
            )
            await scene.decided(intent_id, "session", "window_open")
        self.dusty.report("AI agent", f"AI credit exhausted, window open: the canned reply goes out: “{CANNED}”")

    async def _session(self, text: str, until: str) -> None:
        """The agent answers with this text, and WhatsApp delivers it."""
        acme = self.acme
        intent_id, said = await acme.agent_answers()
        require(said == text, f"the agent answers “{text}”, not “{said}”")
        await acme.decided(intent_id, "session", "window_open")
        for status in ("sent", "delivered", "read")[: ("sent", "delivered", "read").index(until) + 1]:
            await acme.status(intent_id, status, at_least=True)
        sent = await acme.sandbox_has(
            acme.sandbox.messages, lambda m: str(m["callback"]).startswith(f"{intent_id}:1"), "the message"
        )
        require(sent["body"]["text"]["body"] == text, "Meta got the reply word for word")
        acme.report("AI agent", f"“{text}” → session message, {until}")

    async def _bridge(self, scene: Scene, text: str) -> tuple[str, str]:
        """The reply becomes one bridge SMS. The intent's id and the SMS."""
        garage = scene.garage
        intent_id = await scene.says(text)
        await scene.decided(intent_id, "bridge", "window_expired")
        sms = await scene.sandbox_has(
            scene.sms_sent, lambda m: m["message"]["to"] == garage.customer_phone, "the bridge SMS"
        )
        body: str = sms["message"]["body"]
        septets = sum(2 if letter in EXTENDED else 1 for letter in body)
        require(set(body) <= BASIC | EXTENDED, "the bridge is written in GSM-7")
        require(septets <= ONE_SEGMENT and sms["message"]["num_segments"] == "1", "the bridge fits one segment")
        require(f"wa.me/{garage.business_phone[1:]}" in body, "the bridge carries the wa.me link")
        link = _LINK.search(body)
        require(link is not None and garage.portal_host in (None, link[1]), "the bridge carries the portal link")
        await scene.status(intent_id, "failed", reason="window_expired_bridge_sent")
        await scene.sms_count(1)
        scene.report("AI agent", f"“{text}” → one bridge SMS instead ({septets} of {ONE_SEGMENT} septets)")
        scene.report("SMS", _masked(body))
        return intent_id, body

    async def _silent(self, text: str) -> None:
        acme = self.acme
        intent_id = await acme.says(text)
        await acme.decided(intent_id, "silent", "bridge_already_sent")
        await acme.status(intent_id, "failed", reason="window_expired_bridge_already_sent")
        await acme.sms_count(1)
        acme.report("AI agent", f"“{text}” → silent, in the inbox: a bridge was sent already")

    async def _answered_by_sms(self) -> None:
        """The customer of another garage answers the bridge by SMS, is answered by SMS, and says STOP."""
        bolt = self.bolt
        await self._bridge(bolt, "Your Polo needs new tyres. Shall we?")
        await bolt.customer_texts("Yes please, go ahead")
        bolt.report(bolt.garage.customer, "“Yes please, go ahead” by SMS, in the same conversation")
        intent_id, answer = await bolt.agent_answers()
        require(answer.startswith("Thank you! It is ready at five."), "the agent answers the SMS")
        await bolt.decided(intent_id, "session", "live_channel", "sms")
        await bolt.status(intent_id, "sent", at_least=True)
        bodies = [one["message"]["body"] for one in await bolt.sms_sent()]
        require(bodies[1:] == [_plain(answer)], "the answer went out by SMS, word for word")
        bolt.report("AI agent", f"“{answer}” → SMS, in the same conversation")
        stop = await bolt.customer_texts("STOP")
        require(stop["keyword"] == "stop", "STOP is published as a keyword")
        silenced = await bolt.says("One more thing about your tyres.")
        await bolt.decided(silenced, "silent", "sms_opted_out")
        await bolt.status(silenced, "failed", reason="window_expired_sms_opted_out")
        await bolt.sms_count(2)
        bolt.report(bolt.garage.customer, "“STOP” by SMS → no further SMS: the next reply is silent")

    async def _continued_in_the_portal(self) -> None:
        """A third customer opens the link, reads what the SMS was about, writes, and is answered in the portal."""
        crown = self.crown
        announced = "The brakes of your Mini are done."
        intent_id, body = await self._bridge(crown, announced)
        link = _LINK.search(body)
        require(link is not None, "the bridge carries the portal link")
        async with PortalVisitor() as alex:
            await alex.opens(f"{self.portal_scheme}://{link[1]}/{link[2]}" if link else "")
            require(announced in await alex.page(), "the portal shows what the SMS was about")
            await crown.was_read_in_portal(intent_id)
            crown.report(crown.garage.customer, f"opens the link and reads “{announced}” in the portal")
            await alex.writes("Great! Can I come at six?")
            wrote = await crown.inbound("what the customer wrote in the portal", lambda e: e["channel"] == "portal")
            require(wrote["content"]["text"] == "Great! Can I come at six?", "the portal's message came word for word")
            require(wrote["conversation_id"] == crown.conversation_id, "it stands in the same conversation")
            require(not wrote["window"]["open"], "the portal does not open the WhatsApp window")
            reply, answer = await crown.agent_answers()
            require(answer == "Yes, we are here until seven.", "the agent answers in the portal")
            await crown.decided(reply, "session", "live_channel", "portal")
            await crown.status(reply, "sent", at_least=True)
            await _until_shown(crown, alex, answer)
            await crown.was_read_in_portal(reply)
        await crown.sms_count(1)
        crown.report(crown.garage.customer, "“Great! Can I come at six?” in the portal")
        crown.report("AI agent", f"“{answer}” → in the portal, read there; no further SMS")

    async def _exhausted(self) -> None:
        """A garage whose AI credit is exhausted stays silent."""
        dusty = self.dusty
        intent_id = await dusty.says("Your Fiesta is ready.")
        await dusty.decided(intent_id, "silent", "credit_exhausted")
        await dusty.status(intent_id, "failed", reason="window_expired_credit_exhausted")
        await dusty.sms_count(0)
        dusty.report(dusty.garage.name, "AI credit exhausted: the reply is silent, and no SMS is sent")

    async def _template(self) -> None:
        acme = self.acme
        content = {
            "kind": "template",
            "name": TEMPLATE["name"],
            "language": TEMPLATE["language"],
            "parameters": {"customer_name": "Kim", "appointment_time": "10:30"},
        }
        intent_id = await acme.intend("staff", content)
        decision = await acme.decided(intent_id, "template", "template_requested")
        require(not decision["window"]["open"], "the window is closed when the template goes")
        await acme.status(intent_id, "delivered", at_least=True)
        acme.report("staff", f"template {TEMPLATE['name']}, delivered")
        again = await acme.says("One more thing.")
        decision = await acme.decided(again, "silent", "bridge_already_sent")
        require(not decision["window"]["open"], "a template does not open the window")
        acme.report("window", "still closed: only a customer opens it")

    async def _spent(self) -> None:
        """What was charged: a bridge each, an SMS answer, a template, and no SMS of the garage that stayed silent."""
        acme, bolt, crown, dusty = (scene.garage.org_id for scene in (self.acme, self.bolt, self.crown, self.dusty))
        whatsapp = {acme: 3, bolt: 1, crown: 1, dusty: 1}

        async def all_of_whatsapp() -> Sequence[Spent] | None:
            rows = await self.spend()  # WhatsApp is charged a moment after Meta said what it is
            return rows if _charged(rows, "whatsapp") == whatsapp else None

        try:
            rows: Sequence[Spent] = await self.acme.sandbox.until(all_of_whatsapp)
        except TimeoutError:
            raise StoryError(f"the WhatsApp messages charged by garage were never {whatsapp}") from None
        sms = {acme: 1, bolt: 2, crown: 1}
        require(_charged(rows, "sms") == sms, f"the SMS charged by garage are {sms}, not {_charged(rows, 'sms')}")
        names = {scene.garage.org_id: scene.garage.name for scene in (self.acme, self.bolt, self.crown, self.dusty)}
        for one in rows:
            segments = "" if one.segments is None else f", {one.segments} SMS segments"
            kind = f"{one.channel} {one.category}"
            self.acme.report("spend", f"{names[one.org_id]:<12}{kind:<18}{one.amount}  {one.messages} sent{segments}")
        self.acme.report("spend", f"{self.dusty.garage.name:<12}no SMS")


def _charged(rows: Sequence[Spent], channel: str) -> Mapping[str, int]:
    """How many messages of the channel were charged to each garage."""
    found = Counter[str]()
    for one in rows:
        found[one.org_id] += one.messages if one.channel == channel else 0
    return +found


async def _until_shown(scene: Scene, visitor: PortalVisitor, text: str) -> None:
    async def look() -> Any:
        return text in await visitor.page()

    try:
        await scene.sandbox.until(look)
    except TimeoutError:
        raise StoryError("the portal never showed the answer") from None


def _clock(instant: str) -> str:
    return datetime.fromisoformat(instant).astimezone().strftime("%H:%M:%S")


def _plain(text: str) -> str:
    """The text in the letters of an SMS."""
    return text.replace("“", '"').replace("”", '"')


def _masked(body: str) -> str:
    return re.sub(rf"/{CODE}\b", "/" + "·" * 11, body)
