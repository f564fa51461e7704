"""Which messages the portal shows to the customer. Pure: the rule as a function, and the same rule as SQL.

Rule 1: everything that the customer wrote is shown, on whatever channel. Notices of Meta's system are not: they name
        other ids of the customer.
Rule 2: what went to the customer is shown, on whatever channel.
Rule 3: a text that a bridge SMS was to announce is shown, also where an earlier SMS announced it
        (``bridge_already_sent``): it is what the SMS was about. Where the customer's consent stopped that SMS, it is
        not.
Rule 4: an answer that was given in the portal stays there, whatever is tried for it later.
Rule 5: nothing that was rejected is shown, nothing that expired unseen, and nothing that was silent for another reason.
        The bridge SMS itself is not shown either: it only says that there is something to see.
Rule 6: a text that waited for the window and was released is shown as the message that carries it, and once.

``portal.read.v1`` counts only for messages that are shown. They become ``read``, and no other route offers them again.
"""

from dataclasses import dataclass
from typing import Literal

from libs.common.events.outbound import Route
from libs.common.thread.failure_reasons import BRIDGE_ALREADY_SENT
from libs.common.thread.message_status import INTENT_EXPIRED

_CONSENT = ("_consent_off", "_sms_opted_out")
"""Ends of reasons (``failure_reasons``)."""


@dataclass(frozen=True, slots=True)
class PortalCandidate:
    """What the rule asks of a message.

    ``kind`` and ``type`` are the content's own. ``reason`` is of a failure. ``route`` is the decision's on the attempt
    that the message is at, and ``answered`` says whether any attempt was decided for the portal. ``released``: another
    message carries its text now.
    """

    direction: Literal["in", "out"]
    kind: str
    status: str
    type: str | None = None
    notification_type: str | None = None
    reason: str | None = None
    route: Route | None = None
    answered: bool = False
    released: bool = False


def is_shown(message: PortalCandidate) -> bool:
    """Whether the portal shows this message."""
    if message.direction == "in":
        return not (message.kind == "unsupported" and message.type == "system")
    if message.kind == "bridge" or message.notification_type is not None:
        return False
    if message.status in ("sent", "delivered", "read"):
        return True
    reason = message.reason or ""
    if message.released or reason == INTENT_EXPIRED:
        return False
    if reason.endswith(BRIDGE_ALREADY_SENT):
        return True
    bridged = message.route == "bridge" and not reason.endswith(_CONSENT)
    return message.route != "rejected" and (message.answered or bridged)


def shown(row: str) -> str:
    """The rule as an SQL expression; ``row`` is the alias of a row of ``messages``.

    Only of a message that is pending or failed are decisions and parked texts read, by their key.
    """
    m = row
    return f"""case
  when {m}.direction = 'in' then {m}.kind <> 'unsupported' or {m}.content ->> 'type' is distinct from 'system'
  when {m}.kind = 'bridge' or {m}.notification_type is not null then false
  when {m}.status in ('sent', 'delivered', 'read') then true
  when {m}.reason = '{INTENT_EXPIRED}' then false
  when {m}.status = 'failed'
       and exists (select from parked_messages p
                    where p.org_id = {m}.org_id and p.message_id = {m}.message_id and p.state = 'sent') then false
  when {m}.reason ~ '{BRIDGE_ALREADY_SENT}$' then true
  else coalesce((
       select not bool_or(d.attempt = {m}.attempt and d.route = 'rejected')
              and (bool_or(d.channel is not distinct from 'portal')
                   or bool_or(d.attempt = {m}.attempt and d.route = 'bridge')
                      and coalesce({m}.reason, '') !~ '({"|".join(_CONSENT)})$')
         from decisions d
        where d.org_id = {m}.org_id and d.intent_id = {m}.message_id), false)
end"""  # noqa: S608 -- ``row`` is a constant
