"""A conversation's page as a browser without scripts has it: its form, what it posts, and what went to Kafka."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from itertools import count
from typing import Any

import httpx
import orjson

from libs.common.events.directory import OrgUpserted
from libs.common.events.topics import OUTBOUND_INTENTS
from libs.common.kafka.producer import Producer
from libs.common.sending.pricing import Rate, upsert_rates
from tests.support import world
from tests.support.inbox import ADVISOR, RunningInbox, Staff
from tests.support.inbox_thread import InboxThread, a_thread
from tests.support.published import published_on

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
PRIYA = "priya"
_LINES = count(10_000)
"""The ends of SMS numbers: each belongs to one organisation."""


class _Form(HTMLParser):
    """The fields of the composer that a browser would post, and everything that is said."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.said: list[str] = []
        self._area: str | None = None
        self._select: str | None = None
        self._inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = dict(attrs)
        if tag == "form" and has.get("id") == "composer":
            self._inside = 1
        if not self._inside:
            return
        name, value = has.get("name"), has.get("value") or ""
        match tag:
            case "textarea" if name:
                self._area, self.fields[name] = name, ""
            case "input" if name and (has.get("type") != "radio" or "checked" in has):
                self.fields[name] = value
            case "select":
                self._select = name
            case "option" if self._select and ("selected" in has or self._select not in self.fields):
                self.fields[self._select] = value

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = 0
        self._area = None if tag == "textarea" else self._area
        self._select = None if tag == "select" else self._select

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self.fields[self._area] += data.removeprefix("\n") if not self.fields[self._area] else data
        self.said.append(data)


@dataclass
class Desk:
    """Priya's browser on one conversation. ``page`` is what it shows."""

    staff: Staff
    thread: InboxThread
    page: httpx.Response

    @property
    def path(self) -> str:
        return f"/inbox/{self.thread.conversation_id}"

    @property
    def form(self) -> dict[str, str]:
        """What the form of the page would post."""
        parser = _Form()
        parser.feed(self.page.text)
        return parser.fields

    @property
    def text(self) -> str:
        """What the page says, in one line."""
        parser = _Form()
        parser.feed(self.page.text)
        return " ".join(" ".join(parser.said).split())

    async def opens(self) -> "Desk":
        self.page = await self.staff.get(self.path)
        assert self.page.status_code == 200, self.page.text
        return self

    async def presses(self, action: str, **fields: str) -> httpx.Response:
        """Press a button of the form, having typed ``fields``. A redirect is followed, as a browser does."""
        answer = await self.staff.post(f"{self.path}/{action}", self.form | fields)
        self.page = await self.staff.get(answer.headers["location"]) if answer.status_code == 303 else answer
        return answer


async def a_desk(
    inbox: RunningInbox,
    producer: Producer,
    *,
    ago: timedelta | None = HOUR,
    capabilities: Any = ADVISOR,
    **org: Any,
) -> Desk:
    """A garage with SMS and prices, a customer who wrote so long ago (None: never), and Priya at their conversation."""
    org_id = await inbox.an_org(country="GB", currency="GBP", **org)
    sms_number = f"+4477009{next(_LINES):05d}"
    async with inbox.pool.acquire() as db:
        await world.change(
            db,
            OrgUpserted(
                org_id=org_id,
                at=inbox.pool.now(),
                name="AcmeMotors",
                sms_number=sms_number,
                sms_active=True,
                country="GB",
                currency="GBP",
            ),
        )
        day = (inbox.pool.now() - timedelta(days=30)).date()
        await upsert_rates(
            db,
            [
                Rate(day, "whatsapp", "utility", "GB", "GBP", Decimal("0.0159")),
                Rate(day, "whatsapp", "marketing", "GB", "GBP", Decimal("0.0382")),
                Rate(day, "sms", "sms", "GB", "GBP", Decimal("0.0400")),
            ],
        )
    thread = await a_thread(inbox, producer, org_id, name="Amara Okafor", phone="+447700900888")
    if ago is not None:
        await thread.customer_writes("Is the Corsa ready?", at=inbox.pool.now() - ago, publish=False)
    staff = await inbox.staff(org_id, capabilities, PRIYA)
    return await Desk(staff, thread, httpx.Response(200)).opens()


async def a_template(desk: Desk, name: str = "decision_needed", **fields: Any) -> None:
    """A template of the garage's WABA: approved, with two named places, unless said otherwise."""
    async with desk.thread.inbox.pool.acquire() as db:
        waba = await db.fetchval("select waba_id from whatsapp_numbers where org_id = $1", desk.thread.org_id)
        given = {
            "name": name,
            "parameter_format": "NAMED",
            "body": "Hi {{customer_name}}, we need your decision on your {{vehicle}}.",
        }
        await world.a_template(db, desk.thread.org_id, waba, **(given | fields))


async def intents(desk: Desk) -> list[dict[str, Any]]:
    """Every intent of the garage on the topic."""
    kafka = desk.thread.inbox.kafka
    async with published_on(kafka.bootstrap, kafka.topic_prefix, [OUTBOUND_INTENTS]) as published:
        found = [orjson.loads(record.value or b"{}") for record in await published.records(OUTBOUND_INTENTS)]
    return [one for one in found if one["org_id"] == desk.thread.org_id]
