"""Where a page stands in its conversation, as the id of an event. Pure.

Rule 1: a mark names the newest message that the page has, and a digest of the ``SPAN`` messages up to it, each with the
        state that the customer sees.
Rule 2: a page that comes back with its mark has these messages exactly as they are stored, or it is asked to load
        again. So a message that became visible before them, or a state that changed meanwhile, is never missed.
"""

from collections.abc import Sequence
from hashlib import blake2b

from services.portal.rows import StoredMessage
from services.portal.threads import shown_message

SPAN = 20
_DIGEST_BYTES = 9


def mark_of(messages: Sequence[StoredMessage]) -> str:
    """The mark of a page whose newest messages these are, oldest first; empty for none."""
    if not messages:
        return ""
    span = messages[-SPAN:]
    told = "|".join(f"{m.message_id}:{shown_message(m).state}" for m in span)
    return f"{span[-1].message_id}.{len(span)}.{blake2b(told.encode(), digest_size=_DIGEST_BYTES).hexdigest()}"


def known_to(mark: str, messages: Sequence[StoredMessage]) -> int | None:
    """How many of ``messages``, oldest first, a page with this mark has; None where that cannot be said."""
    newest, _, span = mark.partition(".")
    count = next((n for n, m in enumerate(messages, 1) if str(m.message_id) == newest), 0)
    named = span.partition(".")[0]
    width = next((n for n in range(1, min(SPAN, count) + 1) if str(n) == named), 0)
    return count if width and mark_of(messages[count - width : count]) == mark else None
