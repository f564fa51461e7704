"""What staff may send to a customer now, by which channel, and why something else is not possible. Pure.

Rule 1: a text may be written while a channel is alive. WhatsApp is alive while its window is open; SMS and portal where
        the customer wrote there last and lately. Elsewhere the composer is the template picker.
Rule 2: the router decides again. A wrong answer here sends nothing that the decision table forbids.
Rule 3: whatever is not offered has a reason that the page can say.

The names of channels and obstacles are those of ``libs.common.sms_reach`` and of the decision table.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from libs.common.events.outbound import Channel
from libs.common.sms_reach import SmsObstacle
from libs.common.window import WindowWord

Mode = Literal["write", "pick", "read"]
"""Write a text, pick a template, or only read."""
PortalWord = Literal["active", "inactive", "never"]
NoAsk = SmsObstacle | Literal["whatsapp_consent_off"]


@dataclass(frozen=True, slots=True)
class AskedBefore:
    """The bridge SMS that holds the conversation's slot. ``until`` is None while the provider has not accepted it."""

    message_id: UUID
    at: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Hold:
    """Staff hold the AI ``since`` then, ``until`` then at the latest. ``by`` is a name, None where none is known."""

    by: str | None
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a conversation when its composer is made.

    ``window_open`` is the answer of ``libs.common.window``; ``length`` is WINDOW_SECONDS. ``reachable``: WhatsApp has
    an address of the customer that is not marked. ``obstacle`` is why no SMS may go, None when one may. ``asked`` is
    the bridge that holds the slot. ``erased``: the customer was, so whatever is sent to them is rejected.
    """

    now: datetime
    may_send: bool
    window: WindowWord
    window_open: bool
    closes_at: datetime | None
    length: timedelta
    last_channel: Channel | None
    last_at: datetime | None
    portal: PortalWord
    portal_at: datetime | None
    obstacle: SmsObstacle | None
    consent: bool = True
    reachable: bool = True
    asked: AskedBefore | None = None
    hold: Hold | None = None
    erased: bool = False

    @property
    def live(self) -> Channel | None:
        """Where the customer wrote last, within the window's length."""
        if self.last_channel is None or self.last_at is None or self.now >= self.last_at + self.length:
            return None
        return self.last_channel

    @property
    def by_whatsapp(self) -> bool:
        """Whether a text goes by WhatsApp."""
        return self.window_open and self.consent and self.reachable


@dataclass(frozen=True, slots=True)
class Ask:
    """Whether the customer may be asked by SMS to come back.

    ``why_not`` is the obstacle, ``asked`` the bridge before, whose slot is still held. With neither the SMS may go.
    """

    why_not: NoAsk | None = None
    asked: AskedBefore | None = None

    @property
    def is_possible(self) -> bool:
        return self.why_not is None and self.asked is None


@dataclass(frozen=True, slots=True)
class Offer:
    """What the composer offers.

    ``channels``: the live one first, which is the one that is chosen. ``answer_before``: when a window that closes soon
    closes. ``ask`` is None where there is nothing to ask for: WhatsApp takes a text, or the customer never wrote.
    """

    mode: Mode
    channels: tuple[Channel, ...] = ()
    answer_before: datetime | None = None
    ask: Ask | None = None


def offer_of(situation: Situation) -> Offer:
    """The offer to this person, in this conversation, now."""
    if situation.erased or not situation.may_send:
        return Offer("read")
    channels = _channels(situation)
    closing = situation.window == "closing" and "whatsapp" in channels
    return Offer(
        mode="write" if channels else "pick",
        channels=channels,
        answer_before=situation.closes_at if closing else None,
        ask=_ask(situation),
    )


def _channels(situation: Situation) -> tuple[Channel, ...]:
    live, sms = situation.live, situation.obstacle is None
    alive: list[Channel] = []
    if live == "portal" or (live == "sms" and sms):
        alive.append(live)
    if situation.by_whatsapp:
        alive.append("whatsapp")
    if not alive and sms and not (situation.consent and situation.reachable):
        alive.append("sms")  # no template helps either
    if not alive:
        return ()
    others: list[Channel] = []
    if sms:
        others.append("sms")
    if situation.portal != "never":
        others.append("portal")
    return tuple(dict.fromkeys([*alive, *others]))


def _ask(situation: Situation) -> Ask | None:
    """In the order of the decision table: rows 3c, 9, 12 and 13."""
    if situation.by_whatsapp or situation.obstacle == "never_contacted":
        return None
    if not situation.consent:
        return Ask("whatsapp_consent_off")
    if situation.obstacle is not None:
        return Ask(situation.obstacle)
    return Ask(asked=situation.asked)
