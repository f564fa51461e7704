"""From the read model to what the templates write (``services.inbox.views``).

Rule 1: nothing is decided here: the read model has masked and explained everything, the views have their own rules.
"""

from collections.abc import Sequence
from datetime import datetime, tzinfo

from libs.common.pages.languages import Language
from services.inbox.conversations import Conversation
from services.inbox.messages import Cost as ReadCost
from services.inbox.messages import Message as ReadMessage
from services.inbox.views import Badge, Cost, Message, Row, Talk, Thread
from services.inbox.windows import ShownWindow, WindowRule

_MEDIA = frozenset({"image", "video", "audio", "document", "sticker"})
_OPENS_NO_WINDOW = frozenset({"reaction", "unsupported"})


def badge_of(window: ShownWindow, rule: WindowRule) -> Badge:
    """A window as it is shown."""
    return Badge(window.state, window.closes_at, rule.usable, rule.closing_soon)


def row_of(conversation: Conversation, rule: WindowRule, language: Language) -> Row:
    """A row of the list."""
    last = conversation.last_message
    return Row(
        conversation_id=str(conversation.conversation_id),
        name=conversation.customer.name,
        phone=conversation.customer.phone,
        window=badge_of(conversation.window, rule),
        at=last.at if last else conversation.last_at,
        preview=last.preview(language) if last else "",
        channel=last.channel if last else "whatsapp",
        is_out=bool(last and last.direction == "out"),
        is_failed=bool(last and last.status == "failed"),
        is_unread=conversation.unread,
        is_escalated=conversation.escalated_at is not None,
        is_held=conversation.hold is not None,
    )


def message_of(message: ReadMessage, customer: str | None, path: str) -> Message:
    """A message of the thread. ``customer``: the name of its author, where it came in. ``path``: the conversation's."""
    content = message.sent_content or message.content
    is_in = message.direction == "in"
    is_wish = content.get("kind") == "bridge"
    asked = is_wish and (message.reason or "").endswith("bridge_sent")
    came_by_meta = is_in or message.is_echo
    has_file = came_by_meta and message.content.get("kind") in _MEDIA and message.content.get("media_id")
    return Message(
        message_id=str(message.message_id),
        sequence=message.sequence,
        is_out=not is_in,
        kind=message.author.kind,
        author=customer if is_in else message.author.name or message.author.user_id,
        channel="sms" if is_wish else message.channel,  # it is for WhatsApp's window, and never goes by WhatsApp
        content=content,
        at=message.at,
        status="sent" if asked else message.status,  # what was wished is done: the bridge SMS stands beside it
        said=None if asked else message.reason_text,
        reason=message.reason,
        provider_code=message.provider_code,
        is_bridge=message.notification_type == "bridge",
        bridge_for=None if message.bridge_for is None else str(message.bridge_for),
        reply_to=None if message.reply_to is None else str(message.reply_to),
        opens_window=is_in and message.channel == "whatsapp" and content.get("kind") not in _OPENS_NO_WINDOW,
        cost=_cost(message.cost),
        released_by=str(message.parked.intent_id) if message.parked and message.parked.intent_id else None,
        media=f"{path}/media/{message.message_id}" if has_file else None,
    )


def _cost(cost: ReadCost | None) -> Cost | None:
    return None if cost is None else Cost(cost.amount, cost.currency, cost.estimated, cost.segments)


def thread_of(
    conversation: Conversation,
    messages: Sequence[ReadMessage],
    rule: WindowRule,
    zone: tzinfo,
    *,
    earlier: str | None = None,
    later: str | None = None,
    reached: datetime | None = None,
) -> Thread:
    """A page of a thread. ``messages`` are newest first, as they are read."""
    path = f"/inbox/{conversation.conversation_id}"
    return Thread(
        messages=[message_of(one, conversation.customer.title, path) for one in reversed(messages)],
        window=badge_of(conversation.window, rule),
        zone=zone,
        earlier=earlier,
        later=later,
        reached=reached,
    )


def talk_of(conversation: Conversation, thread: Thread) -> Talk:
    """The open conversation with its header."""
    last = conversation.last_message
    return Talk(
        conversation_id=str(conversation.conversation_id),
        name=conversation.customer.name,
        phone=conversation.customer.phone,
        number=conversation.number.display_number if conversation.number else None,
        channel=conversation.last_inbound_channel or (last.channel if last else "whatsapp"),
        window=thread.window,
        thread=thread,
        is_held=conversation.hold is not None,
    )
