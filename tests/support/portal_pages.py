"""Pages of the portal as they look in use: for pictures, for axe, for tests of what the browser does with them.

The people, texts and numbers are invented; +44 7700 900xxx is Ofcom's range for fiction.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from libs.common.pages.static_files import StaticFiles
from services.portal.html import STATIC, Html
from services.portal.languages import language_of
from services.portal.views import (
    Author,
    Garage,
    GonePage,
    OpenPage,
    Page,
    ReplacePage,
    ShownMessage,
    State,
    ThreadPage,
    TroublePage,
    Unsent,
)
from tests.support.page_server import PageServer

ACME = Garage("AcmeMotors", "+447700900123")
ORIENT = Garage("كراج الشرق", "+447700900124")
NOW = datetime(2026, 11, 25, 14, 5, tzinfo=UTC)


def shown(  # noqa: PLR0917 (a row of a table)
    number: int,
    author: Author,
    text: str | Mapping[str, Any],
    at: str,
    channel: str = "portal",
    state: State | None = None,
) -> ShownMessage:
    """A message at ``day hour:minute`` of November 2026."""
    return ShownMessage(
        message_id=f"00000000-0000-7000-8000-{number:012}",
        author=author,
        channel=channel,
        content={"kind": "text", "text": text} if isinstance(text, str) else text,
        at=datetime.strptime(f"2026-11-{at}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC),
        place=f"p{number}",
        state=state,
    )


STORY = (
    shown(1, "automatic", "Hi Kim, your Golf is booked for Wednesday at 08:30. Is that still good?", "23 09:10"),
    shown(2, "you", "Wed 8:30 is fine. Kim", "23 09:26", "sms", "seen"),
    shown(
        3,
        "automatic",
        "Great, see you on Wednesday at 08:30. Please bring the key for the locking wheel nuts.",
        "23 09:26",
        "sms",
    ),
    shown(
        4,
        "you",
        {"kind": "image", "media_id": "1", "caption": "This light came on today. Can you look at it too?"},
        "24 17:20",
        "whatsapp",
        "seen",
    ),
    shown(
        5, "automatic", "Thank you, that is the brake pad sensor. We will check it tomorrow.", "24 17:21", "whatsapp"
    ),
    shown(6, "garage", "The front discs are below the limit. I put two photos here for you.", "25 10:48"),
    shown(7, "you", "Thanks for the photos. How much for pads and discs together?", "25 11:05", state="seen"),
    shown(8, "you", "At work, no internet here. WhatsApp me after 2 please. Kim", "25 11:42", "sms", "seen"),
    shown(
        9, "garage", "Pads and discs, fitted: £284.00 with VAT. The parts are here, so we can do it today.", "25 14:03"
    ),
)

RIGHT_TO_LEFT = (
    shown(1, "automatic", "مرحبًا ليلى، سيارتك الغولف جاهزة. هل تناسبك الساعة 08:30؟", "24 16:10"),
    shown(2, "you", "نعم، الساعة 08:30 مناسبة. شكرًا!", "24 16:12", "sms", "seen"),
    shown(3, "garage", "الأقراص الأمامية تحت الحد المسموح. التفاصيل: https://acme.example/golf?id=7", "25 10:48"),
    shown(4, "you", "كم السعر مع VAT؟", "25 11:05", state="seen"),
    shown(5, "garage", "284.00 £ مع الضريبة. القطع موجودة (2 disc)، ويمكننا ذلك اليوم.", "25 14:03"),
)

KINDS: tuple[Mapping[str, Any], ...] = (
    {"kind": "text", "text": "See https://acme.example/a?b=c, or call."},
    {"kind": "image", "link": "https://acme.example/disc.jpg", "caption": "The front disc", "filename": "disc.jpg"},
    {"kind": "video", "media_id": "1"},
    {"kind": "audio", "media_id": "1"},
    {"kind": "audio", "media_id": "1", "voice": True},
    {"kind": "document", "link": "https://acme.example/estimate.pdf", "filename": "estimate.pdf"},
    {"kind": "sticker", "media_id": "1"},
    {"kind": "location", "latitude": 51.5, "longitude": -0.12, "name": "AcmeMotors", "address": "1 Bridge Road"},
    {
        "kind": "contacts",
        "contacts": [{"name": {"formatted_name": "Tow truck"}, "phones": [{"phone": "+44 7700 900555"}]}],
    },
    {"kind": "button", "text": "Yes, please", "payload": "secret-payload"},
    {"kind": "interactive", "reply": {"type": "button_reply", "id": "secret-id", "title": "Wednesday"}},
    {
        "kind": "interactive",
        "interactive": {
            "type": "button",
            "body": {"text": "Which day is good for you?"},
            "action": {"buttons": [{"type": "reply", "reply": {"id": "secret-id", "title": "Wednesday"}}]},
        },
    },
    {"kind": "order", "items": [{"product_retailer_id": "secret-item"}], "text": "Please reserve"},
    {"kind": "reaction", "message_id": "secret-wamid", "emoji": "👍"},
    {"kind": "reaction", "message_id": "secret-wamid", "emoji": None},
    {"kind": "template", "name": "secret_name", "language": "en_GB", "parameters": []},
    {"kind": "unsupported", "type": "poll_creation", "caption": "Which one?", "raw": {"secret": 1}},
    {"kind": "hologram"},
)


def thread(*messages: ShownMessage, garage: Garage = ACME, **others: Any) -> ThreadPage:
    """The page of a conversation."""
    fields: dict[str, Any] = {"phone_end": "99", "token": "t" * 43, "client_id": "f" * 32, "draft_key": "k", "now": NOW}
    return ThreadPage(garage, messages=messages, **(fields | others))


def every_page() -> dict[str, Page]:
    """Each page that the portal has, by a name."""
    kinds = [
        shown(
            number, "garage" if number % 2 else "you", content, "25 12:00", "whatsapp", None if number % 2 else "sent"
        )
        for number, content in enumerate(KINDS, 1)
    ]
    return {
        "open": OpenPage(ACME, "t" * 43),
        "open-button": OpenPage(ACME, "t" * 43, by_itself=False),
        "replace": ReplacePage(ACME, "t" * 43, "99"),
        "thread": thread(*STORY),
        "thread-empty": thread(),
        "thread-kinds": thread(*kinds, has_earlier=True),
        "thread-earlier": thread(*STORY, has_earlier=True, is_newest=False),
        "not-sent": thread(*STORY, text="Yes please, go ahead.", refusal="not_sent"),
        "on-its-way": thread(*STORY, on_its_way=True),
        "right-to-left": thread(*RIGHT_TO_LEFT, garage=ORIENT),
        "gone": GonePage(ACME, "t" * 43),
        "gone-elsewhere": GonePage(None, "t" * 43),
        "gone-inside": GonePage(ACME, "t" * 43, is_inside=True),
        "gone-session": GonePage(ACME),
        "asked": GonePage(ACME, "t" * 43, asked=True),
        "away": TroublePage("away", ACME, again="/conversation"),
        "away-unsent": TroublePage("away", ACME, unsent=Unsent("Yes please, go ahead.", "t" * 43, "f" * 32)),
        "forbidden": TroublePage("forbidden"),
        "too-many": TroublePage("too_many"),
    }


def page_server() -> PageServer:
    """Gives every page to a browser, by its name."""
    static = StaticFiles(STATIC)
    html, pages = Html(static), every_page()

    def write(name: str, languages: str | None) -> str | None:
        return html.page(pages[name], language_of(languages)) if name in pages else None

    return PageServer(write, static)
