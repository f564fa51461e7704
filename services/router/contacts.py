"""First contacts: a customer and a conversation for a phone number that no message was sent to before."""

from collections.abc import Sequence
from datetime import datetime

from libs.common.db.pool import Connection
from libs.common.directory.identities import Observation, resolve
from libs.common.errors import Transient
from libs.common.events.intents import Intent
from libs.common.phone import normalise
from libs.common.thread import conversations
from libs.common.thread.conversations import ConversationAddress
from services.router.facts import Attempt


async def open_conversations(db: Connection, attempts: Sequence[Attempt], now: datetime) -> None:
    """Give each attempt its conversation and customer; create what is missing. Call inside a transaction.

    A number belongs to the holder of its line, under any spelling. A business number that moved to another WhatsApp
    Business Account is meant as it is now, by whichever id the intent names it.
    """
    observations = [
        Observation(a.intent.org_id, _phone(a), None, None, now, "intent", origin="outbound")
        for a in attempts
        if a.facts.customer_id is None
    ]
    resolved = iter(await resolve(db, observations, now) if observations else [])
    addresses: list[ConversationAddress] = []
    for attempt in attempts:
        customer_id = attempt.facts.customer_id or next(resolved).customer_id
        if customer_id is None:
            raise RuntimeError("an intent's number has no customer")
        addresses.append(ConversationAddress(attempt.intent.org_id, customer_id, attempt.facts.phone_number_id))
    await conversations.ensure(db, sorted(set(addresses)))
    threads = await conversations.find(db, [address[:3] for address in addresses])
    for attempt, address, thread in zip(attempts, addresses, threads, strict=True):
        if thread is None:
            raise Transient("a customer was merged, or a business number moved, meanwhile")
        attempt.facts = attempt.facts._replace(conversation_id=thread.conversation_id, customer_id=address.customer_id)


def _phone(attempt: Attempt) -> str:
    """The phone that the intent names."""
    to = attempt.intent.to if isinstance(attempt.intent, Intent) else None
    phone = None if to is None else normalise(to.phone)
    if phone is None:
        raise ValueError("an intent that is not rejected names a conversation or a phone number")
    return phone
