"""Ids that are derived from other ids, so that a redelivery derives the same ids. Pure.

An outbound message's id *is* its intent's id. The id of every message that Transom adds is derived from it.

Producers choose intent ids, so two organisations may use the same one. Providers return callback data as evidence, so
it names the organisation too: as a mark of eight characters that does not reveal its name.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID, uuid5

MessageKey = tuple[str, UUID]
"""The key of a message: org_id, message_id."""
AttemptKey = tuple[str, UUID, int]
"""The key of one attempt of an intent: org_id, intent_id, attempt."""
SendKey = tuple[str, UUID, int]
"""The key of a row of ``sends``: org_id, message_id, attempt."""

_BRIDGE = UUID("8a1d7c52-52f5-5f1b-9f5e-0f6c7a54b001")
_PORTAL = UUID("b1f0a1de-3c5c-5a53-9c0e-6d1d1f6f2a77")
_RELEASE = UUID("2c9be0d3-8a0b-5a0e-9a55-0f6e0b3c7d14")
_KEYED = UUID("5d3e7f10-46b1-5c0f-8f6a-91c2d4b7e3a8")
_CALLBACK = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):([1-9][0-9]{0,5}):([A-Za-z0-9_-]{8})")


def bridge_message_id(intent_id: UUID) -> UUID:
    """The id of the bridge SMS that stands in for the message ``intent_id``."""
    return uuid5(_BRIDGE, intent_id.bytes.hex())


def portal_provider_id(org_id: str, conversation_id: UUID, session: str, client_id: str, text: str) -> str:
    """The provider id of a message that a customer wrote in the portal.

    The same form of a session with the same text is the same message. An edited text is another one, for what the form
    held before may be stored already. The id reveals neither session nor text.
    """
    digest = sha256(text.encode()).hexdigest()
    return str(uuid5(_PORTAL, f"{org_id}/{conversation_id}/{session}/{client_id}/{digest}"))


def wanted_link_id(org_id: str, conversation_id: UUID, hour: int) -> UUID:
    """The intent that asks for a fresh link; ``hour`` is counted since 1970. Many wishes within it are one intent."""
    return uuid5(_PORTAL, f"link/{org_id}/{conversation_id}/{hour}")


def release_intent_id(org_id: str, message_ids: Iterable[UUID]) -> UUID:
    """The intent that carries these parked messages of one conversation, in whatever order they are named."""
    return uuid5(_RELEASE, "/".join([org_id, *sorted(map(str, message_ids))]))


def kept_message_id(org_id: str, user_id: str, conversation_id: UUID, key: str) -> UUID:
    """The id of a text that a member of staff keeps; ``key`` is theirs, so that a repeated request keeps it once."""
    return uuid5(_RELEASE, f"kept/{org_id}/{conversation_id}/{user_id}/{key}")


def keyed_intent_id(org_id: str, user_id: str, key: str) -> UUID:
    """The intent that a person asked for under this Idempotency-Key: the same key is the same message."""
    return uuid5(_KEYED, f"{org_id}/{len(user_id)}/{user_id}/{key}")


class Callback(NamedTuple):
    """The parsed callback data of a send."""

    message_id: UUID
    attempt: int
    mark: str

    def is_of(self, org_id: str) -> bool:
        """Whether a send of this organisation carried it."""
        return hmac.compare_digest(self.mark, _mark(org_id, self.message_id))


def callback_data(org_id: str, message_id: UUID, attempt: int) -> str:
    """The callback data of a send, which the provider echoes in every status of it.

    Its form: ``message_id:attempt:mark of the organisation``.
    """
    return f"{message_id}:{attempt}:{_mark(org_id, message_id)}"


def read_callback(data: str | None) -> Callback | None:
    """Our callback data. None for data of another system."""
    found = _CALLBACK.fullmatch(data or "")
    return None if found is None else Callback(UUID(found[1]), int(found[2]), found[3])


def _mark(org_id: str, message_id: UUID) -> str:
    digest = hmac.digest(message_id.bytes, org_id.encode(), sha256)
    return urlsafe_b64encode(digest[:6]).decode()
