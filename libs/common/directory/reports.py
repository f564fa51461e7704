"""What providers report about addresses, consents and templates, as the directory stores it. Pure data."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.faults import RecipientFault
from libs.common.providers import ProviderChannel

MarkReason = Literal["unreachable", "no_phone", "sms_opted_out", "marketing_limited"]
MarkChannel = ProviderChannel | Literal["marketing"]
MarkSource = Literal["answer", "status", "list", "message"]


class Mark(NamedTuple):
    """``address`` (E.164, a wa_id or a BSUID) cannot be written to on ``channel`` until ``until``.

    ``code`` is the provider's, said at ``at``.
    """

    org_id: str
    channel: MarkChannel
    address: str
    reason: MarkReason
    code: str | None
    source: MarkSource
    at: datetime
    until: datetime


class SignOfLife(NamedTuple):
    """Something came from ``address`` on ``channel``, or certainly arrived there, at ``at``."""

    org_id: str
    channel: ProviderChannel
    address: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Unreached:
    """A message to ``address`` in ``conversation_id`` failed with ``fault``, by the provider's ``code``."""

    org_id: str
    conversation_id: UUID
    channel: ProviderChannel
    address: str
    fault: RecipientFault
    code: str
    source: MarkSource
    at: datetime


class MarketingStopped(NamedTuple):
    """The provider delivers no marketing in this conversation, because the customer has stopped it there."""

    org_id: str
    conversation_id: UUID
    at: datetime


class SentTemplate(NamedTuple):
    """A template as a send names it: ``account`` is the business number, whose WABA has the template."""

    org_id: str
    account: str
    name: str
    language: str


TemplateFailure = tuple[SentTemplate, str, datetime]
"""A template, what its failed send said about it (its status, or the code of the failure), and when."""


class TemplateNews(NamedTuple):
    """Meta's webhook about a template, said at ``at``.

    ``word`` (upper case) is its status, category or quality from then on. ``components`` are those that it has now, as
    far as the webhook tells them. Where both are None the webhook says something that is not known here: only a sync
    shows what it is.
    """

    waba_id: str
    name: str
    language: str
    kind: Literal["status", "category", "quality", "components"]
    word: str | None
    at: datetime
    reason: str | None = None
    components: list[dict[str, Any]] | None = None
