"""Pages of the inbox as they look in use: for axe, and for tests of what they show.

The people, texts and numbers are invented; +44 7700 900xxx is Ofcom's range for fiction.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from libs.common.pages.languages import Language
from libs.common.pages.static_files import StaticFiles
from libs.common.window import WindowWord
from services.inbox.clocks import Clock
from services.inbox.composer_views import Composer, Price, Prices
from services.inbox.composing import Hold, Situation, offer_of
from services.inbox.conversations import PortalActivity
from services.inbox.customers import CATEGORIES, BridgeSms, Consent, Contact, CustomerPanel, SmsOutlook
from services.inbox.drafts import Draft
from services.inbox.html import LANGUAGES, STATIC, Html
from services.inbox.messages import Cost as ReadCost
from services.inbox.pages.composition import Helping
from services.inbox.pages.spend import SpendPage
from services.inbox.picker import Choice, picker_of
from services.inbox.shell import Shell
from services.inbox.spend import SpendQuery, SpendRow, totals
from services.inbox.spend_chart import KINDS, chart_of, kind_of
from services.inbox.views import Badge, Cost, Filter, Held, Listing, Message, Row, Talk, Thread
from services.inbox.windows import ShownWindow, WindowRule
from tests.support.page_server import PageServer
from tests.unit.services.inbox.composing_builders import a_situation, a_template
from tests.unit.services.inbox.composing_builders import expired as closed

NOW = datetime(2026, 11, 25, 14, 8, tzinfo=UTC)
DAY, SOON = timedelta(days=1), timedelta(hours=2)
LONDON = ZoneInfo("Europe/London")
STATIC_FILES = StaticFiles(STATIC)
HTML = Html(STATIC_FILES)
GARAGE = "+447700900123"
SHELL = Shell("AcmeMotors", "Priya Shah", "inbox", "t" * 43, counts={"all": 128, "closing": 6, "failed": 3})
RULE = WindowRule(DAY, timedelta(minutes=5), SOON)


def badge(state: WindowWord, minutes: int | None = None) -> Badge:
    """A window that closes in so many minutes and a half, or closed so many ago."""
    if minutes is None:
        return Badge(state, None, DAY, SOON)
    return Badge(state, NOW + timedelta(minutes=minutes, seconds=30 if minutes >= 0 else -30), DAY, SOON)


def at(moment: str) -> datetime:
    """``day hour:minute`` of November 2026."""
    return datetime.strptime(f"2026-11-{moment}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


def row(number: int, name: str | None, preview: str, moment: str, window: Badge, **others: Any) -> Row:
    """A row of the list."""
    fields: dict[str, Any] = {"phone": f"+447700900{number:03}", "channel": "whatsapp", "is_out": False}
    conversation = f"00000000-0000-7000-8000-{number:012}"
    return Row(conversation, name, at=at(moment), preview=preview, window=window, **(fields | others))


ROWS = (
    row(999, "Kim Larsen", "Pads and discs, fitted: £284.00 with VAT", "25 14:03", badge("open", 192), is_out=True),
    row(998, "Amara Okafor", "Hi Amara, the clutch is done, but the flywheel", "25 13:58", badge("expired", -47),
        is_out=True, is_failed=True),
    row(997, "Devika Rao", "Perfect, see you at four.", "25 12:40", badge("open", 1_352)),
    row(996, "Hannah Cole", "Can I pay by card when I collect?", "25 11:26", badge("expired", -300), channel="sms",
        is_unread=True, is_escalated=True),
    row(995, "Inês Duarte", "Thanks! I saw the invoice in the portal.", "25 10:51", badge("expired", -1500),
        channel="portal"),
    row(994, "Marco Bianchi", "Your car is ready", "25 09:12", badge("never"), is_out=True),
    row(993, "Sam Neill", "Voice message", "24 16:00", badge("closing", 112)),
    row(992, "ليلى حداد", "هل السيارة جاهزة اليوم؟", "24 14:49", badge("closing", 41), is_unread=True),
    row(991, None, "Gilt das Angebot auch für den Kombi?", "19 14:17", badge("closing", 9), is_unread=True),
)  # fmt: skip


def message(number: int, moment: str, text: str | Mapping[str, Any], **others: Any) -> Message:
    """A message of Kim, or of somebody else."""
    fields: dict[str, Any] = {
        "sequence": number, "is_out": False, "kind": "customer", "author": "Kim Larsen", "channel": "whatsapp",
        "content": {"kind": "text", "text": text} if isinstance(text, str) else text, "status": "received",
    }  # fmt: skip
    return Message(f"00000000-0000-7000-9000-{number:012}", at=at(moment), **(fields | others))


AI: dict[str, Any] = {"is_out": True, "kind": "ai", "author": None, "status": "delivered"}
PRIYA: dict[str, Any] = {"is_out": True, "kind": "staff", "author": "Priya Shah", "status": "delivered"}


def identity(number: int) -> str:
    return f"00000000-0000-7000-9000-{number:012}"


STORY = (
    message(1, "23 09:10", "Hi Kim, your Golf is booked for Wednesday at 08:30. Is that still good for you?",
            **AI | {"status": "failed"}, reason="window_expired_bridge_sent",
            said="Not delivered: the window had closed. We asked Kim by SMS to come back."),
    message(2, "23 09:10", "AcmeMotors: Update for you. WhatsApp: wa.me/447700900123 Portal: tflow.link/••••••••",
            is_out=True, kind="system", author=None, channel="sms", status="delivered", is_bridge=True,
            bridge_for=identity(1), cost=Cost(Decimal("0.0400"), "GBP", is_estimated=False, segments=1)),
    message(3, "23 09:26", "Wed 8:30 is fine. Kim", channel="sms"),
    message(4, "23 09:26", "Great, see you on Wednesday at 08:30. Please bring the key for the locking wheel nuts.",
            **AI, channel="sms", cost=Cost(Decimal("0.0400"), "GBP", is_estimated=False, segments=1)),
    message(5, "24 17:20", {"kind": "image", "media_id": "1", "caption": "This light came on today. Can you look?"},
            opens_window=True, media="/inbox/x/media/y"),
    message(6, "24 17:21", "Thank you, that is the brake pad sensor. We will check it tomorrow with the rest.",
            **AI | {"status": "read"}),
    message(7, "24 17:22", {"kind": "reaction", "emoji": "👍"}, reply_to=identity(6)),
    message(8, "25 10:48", "The front discs are below the limit. I put two photos here for you.",
            **PRIYA | {"status": "read"}, channel="portal"),
    message(9, "25 11:05", "Thanks for the photos. How much for pads and discs together?", channel="portal"),
    message(10, "25 11:42", "At work, no internet here. WhatsApp me after 2 please. Kim", channel="sms"),
    message(11, "25 14:03", "Pads and discs, fitted: £284.00 with VAT. The parts are here, so we can do it today.",
            **PRIYA, reply_to=identity(9), cost=Cost(Decimal("0.0159"), "GBP", is_estimated=True)),
)  # fmt: skip


def talk(*messages: Message, window: Badge | None = None, hold: Held | None = None, **others: Any) -> Talk:
    """The conversation with Kim."""
    shown = window or badge("open", 192)
    fields: dict[str, Any] = {
        "conversation_id": ROWS[0].conversation_id, "name": "Kim Larsen", "phone": "+447700900999", "number": GARAGE,
        "channel": "whatsapp", "may_send": True, "is_held": hold is not None,
    }  # fmt: skip
    thread = Thread(messages, shown, LONDON, hold=hold, reached=NOW)
    return Talk(window=shown, thread=thread, **(fields | others))


def listing(*rows: Row, **others: Any) -> Listing:
    """The list."""
    return Listing(others.pop("filter", Filter()), rows, numbers={"1": GARAGE}, **others)


def page(language: Language, *, shell: Shell = SHELL, **values: Any) -> str:
    """The document of ``/inbox``."""
    clock = Clock(NOW, LONDON, language)
    given: dict[str, Any] = {
        "listing": listing(*ROWS),
        "rule": RULE,
        "clock": clock,
        "last": "",
        **dict.fromkeys(("talk", "current", "panel")),
    }
    given |= values
    if given["talk"]:
        given["current"] = given["talk"].conversation_id
    return HTML.page("inbox.html", language, shell=shell, **given)


TEMPLATES = (
    a_template(),
    a_template("appointment_reminder", components=[
        {"type": "BODY", "text": "Hi {{customer_name}}, your appointment for the {{vehicle}} is tomorrow."}]),
    a_template("winter_check", category="MARKETING", components=[
        {"type": "BODY", "text": "Get your {{vehicle}} ready for winter."}]),
    a_template("ready_for_collection", status="PENDING"),
)  # fmt: skip


def composer(situation: Situation, **others: Any) -> Composer:
    """The composer for Kim."""
    draft = others.pop("draft", Draft())
    price = Price(Decimal("0.0159"), "GBP")
    fields: dict[str, Any] = {
        "conversation_id": UUID(ROWS[0].conversation_id), "name": "Kim Larsen", "org_name": "AcmeMotors",
        "user_id": "priya", "user_name": "Priya Shah", "token": "t" * 43, "form_id": "f" * 32,
        "situation": situation, "offer": offer_of(situation), "may_manage_templates": True, "draft": draft,
        "picker": picker_of(TEMPLATES, draft.choice, {"customer_name": "Kim Larsen"}),
        "prices": Prices(price, Price(Decimal("0.0400"), "GBP"), {"UTILITY": price}),
    }  # fmt: skip
    return Composer(**(fields | others))


def panel(**others: Any) -> CustomerPanel:
    """What stands beside Kim's thread."""
    said = Consent("marketing", False, at("20 10:00"), "customer", "whatsapp", "keyword")  # noqa: FBT003
    consents = [Consent(name, name != "marketing", None, None, None, None) for name in CATEGORIES]
    contact = Contact(UUID(int=1), "Kim Larsen", "+447700900999", "+447700900999", reachable=True,
                      unreachable_until=None)  # fmt: skip
    bridge = BridgeSms(
        UUID(identity(2)), UUID(identity(1)), at("23 09:10"), at("23 09:10"), "delivered", None, None, None,
        ReadCost(Decimal("0.0400"), "GBP", estimated=False, segments=1),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "conversation_id": UUID(ROWS[0].conversation_id), "contact": contact,
        "window": ShownWindow("open", at("24 17:20"), at("25 17:20"), open=True), "last_inbound_channel": "sms",
        "last_inbound_at": at("25 11:42"), "consents": consents, "trail": [said], "bridges": [bridge],
        "portal": PortalActivity("active", at("25 11:05")), "sms": SmsOutlook(None, None, None),
    }  # fmt: skip
    return CustomerPanel(**(fields | others))


SPENT = (("whatsapp", "service", "0.0040", 31), ("whatsapp", "utility", "0.0159", 12), ("sms", "sms", "0.0400", 6),
         ("sms", "bridge", "0.0400", 3))  # fmt: skip


def spend(currency: str = "GBP", times: int = 1) -> SpendPage:
    """What AcmeMotors spent in ten days; that of the last day is estimated. ``times``: of what it costs in pounds."""
    query = SpendQuery(date(2026, 11, 16), date(2026, 11, 25), ("channel", "category"))

    def row(  # noqa: PLR0917 (a row of a table)
        day: date | None, channel: str, category: str, price: str, messages: int, open_: int
    ) -> SpendRow:
        segments = messages if channel == "sms" else 0
        cost = Decimal(price) * times
        return SpendRow(
            day, channel, category, None, None, currency, messages, segments, cost * messages, cost * open_, 0
        )

    many = {
        (day, kind): kind[3] * (3 + day.day * 7 % 5) // 4 for day in query.days for kind in SPENT if day.weekday() < 6
    }
    by_day = [row(day, *kind[:3], n, n if day == query.last else 0) for (day, kind), n in many.items()]
    rows = [
        row(None, *kind[:3], sum(n for (_, one), n in many.items() if one == kind), many[query.last, kind])
        for kind in SPENT
    ]
    total, others = totals(rows, currency)
    kinds = {
        kind: totals([one for one in rows if kind_of(one.channel, one.category) == kind], currency)[0] for kind in KINDS
    }
    return SpendPage(query, rows, 0, total, others, kinds, chart_of(query.days, by_day, currency), (21, 14))


SPENDS: dict[str, Callable[[], SpendPage]] = {"spend": spend, "spend-yen": lambda: spend("JPY", 20_000)}
"""The pages of what was spent, by a name."""
_DOOR: dict[str, Any] = {
    "token": "t" * 43,
    "leads_to": "/inbox",
    "choices": [],
    "trouble": None,
    "detail": None,
    "is_out": False,
}
DOORS: dict[str, dict[str, Any]] = {
    "sign-in": {"way": "provider", "ends_at": "https://login.example/logout", "is_out": True},
    "sign-in-choice": {
        "way": "provider",
        "ends_at": None,
        "choices": [("acme", "AcmeMotors"), ("bolt", "Bolt & Sons")],
    },
    "sign-in-token": {"way": "token", "ends_at": None, "trouble": "token", "detail": "the token ended at 10:00"},
    "sign-in-none": {"way": None, "ends_at": None, "trouble": "organisation"},
}
"""The pages of the sign-in, by a name."""


def document(language: Language, name: str) -> str:
    """A page by its name."""
    if name in DOORS:
        return HTML.page("sign_in.html", language, **_DOOR | DOORS[name])
    if name in SPENDS:
        return HTML.page(
            "spend.html", language, shell=replace(SHELL, section="spend", view=None), report=SPENDS[name]()
        )
    return page(language, **every_page()[name])


def every_page() -> dict[str, dict[str, Any]]:
    """The values of each page, by a name."""
    expired = badge("expired", -3)
    opened = expired.closes_at - DAY if expired.closes_at else NOW
    moved = opened - STORY[4].at
    story = [replace(one, at=one.at + moved) if one in STORY[4:7] else one for one in STORY]
    closed_panel = panel(window=ShownWindow("expired", opened, expired.closes_at, open=False))
    failed = message(
        12, "25 14:07", "The flywheel is in stock, by the way.", **PRIYA | {"status": "failed"},
        reason="window_expired_bridge_sent", said="Not delivered: the window had closed. We asked Kim by SMS.",
    )  # fmt: skip
    chosen = Draft(
        "If you say yes before 15:00, the car is ready by five.",
        choice=Choice(template="en_GB/decision_needed", values={"parameters.customer_name": "Kim Larsen"}),
    )
    staff = Hold("Priya Shah", NOW - timedelta(minutes=5), NOW + timedelta(minutes=55))
    hold = Held(NOW - timedelta(minutes=5), "Priya Shah", NOW + timedelta(minutes=55))
    return {
        "list": {},
        "list-empty": {"listing": listing()},
        "list-closing": {
            "listing": listing(
                *(one for one in reversed(ROWS) if one.window.state == "closing"), filter=Filter("closing")
            )
        },
        "list-nothing": {"listing": listing(filter=Filter("closing"))},
        "list-search": {"listing": listing(filter=Filter("all", q="flywheal"))},
        "open": {
            "talk": talk(*STORY),
            "composer": composer(a_situation(closes_at=NOW + timedelta(minutes=192))),
            "panel": panel(),
        },
        "closing": {
            "talk": talk(*STORY, window=badge("closing", 9)),
            "composer": composer(a_situation(window="closing", closes_at=NOW + timedelta(minutes=9))),
            "panel": panel(),
        },
        "expired": {
            "talk": talk(*story, failed, window=expired),
            "listing": listing(
                replace(ROWS[0], window=expired, preview="The flywheel is in stock, by the way.", is_failed=True),
                *ROWS[1:],
            ),
            "composer": composer(closed(), draft=chosen),
            "helps": {failed.message_id: Helping("template", talk().path)},
            "panel": closed_panel,
        },
        "expired-none": {
            "talk": talk(*story, window=expired),
            "composer": composer(closed(), picker=picker_of((), Choice(), {})),
        },
        "never": {
            "talk": talk(window=badge("never"), name=None),
            "composer": composer(closed(window="never", closes_at=None, obstacle="never_contacted")),
        },
        "reader": {"talk": talk(*STORY, may_send=False), "composer": composer(a_situation(may_send=False))},
        "held": {"talk": talk(*STORY, hold=hold), "composer": composer(a_situation(hold=staff)), "panel": panel()},
    }


def page_server() -> PageServer:
    """Gives every page to a browser, by its name; and the list to its scripts."""
    pages = {*every_page(), *DOORS, *SPENDS}

    def write(path: str, languages: str | None) -> str | None:
        name = path.partition("?")[0]
        return document(LANGUAGES.of(languages), name) if name in pages else None

    return PageServer(write, STATIC_FILES)
