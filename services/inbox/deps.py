"""What the routes of the inbox work with."""

import math
from dataclasses import dataclass
from http import HTTPStatus

from libs.common.bridge.portal_keys import PurposeKeys
from libs.common.clock import steady
from libs.common.db.pool import Pool
from libs.common.db.shares import Shares
from libs.common.kafka.producer import Producer
from libs.common.pages.cookies import FormTokens
from services.inbox.admission import Admission
from services.inbox.conversations import Conversations
from services.inbox.customers import Customers
from services.inbox.html import Html
from services.inbox.live import Live
from services.inbox.media import Media
from services.inbox.messages import Messages
from services.inbox.notices import Notices
from services.inbox.oidc import Provider
from services.inbox.organisations import Organisations
from services.inbox.parked import ParkedTexts
from services.inbox.people import Person
from services.inbox.problems import Problem
from services.inbox.request_budget import RequestBudget
from services.inbox.sealed import Seal
from services.inbox.sending import Sending
from services.inbox.sessions import Sessions
from services.inbox.templates import Templates
from services.inbox.windows import WindowRule


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of each purpose, derived from the one of all replicas."""

    sessions: PurposeKeys
    forms: FormTokens
    cursors: PurposeKeys
    seal: Seal

    @classmethod
    def of(cls, key: bytes) -> "Keys":
        return cls(
            PurposeKeys([key], "sessions"),
            FormTokens([key]),
            PurposeKeys([key], "cursors"),
            Seal(PurposeKeys([key], "sign-ins")),
        )


@dataclass(frozen=True, slots=True)
class Access:
    """Who gets in."""

    admission: Admission
    organisations: Organisations
    provider: Provider | None
    """Where people sign in. None: by a development token, on this machine."""
    full_access: frozenset[str]
    """Issuers whose ``*`` counts."""
    budget: RequestBudget

    def let_through(self, person: Person) -> None:
        """Take one request from the person's budget. Raises Problem where it is spent."""
        wait = self.budget.seconds_to_wait(person.org_id, person.user_id, steady())
        if wait is not None:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "these were very many requests: wait a moment",
                headers={"Retry-After": str(math.ceil(wait))},
            )


@dataclass(frozen=True, slots=True)
class Deps:
    """One for a process."""

    pool: Pool
    producer: Producer
    keys: Keys
    access: Access
    sessions: Sessions
    html: Html
    live: Live
    sending: Sending
    rule: WindowRule
    reads: Shares
    conversations: Conversations
    messages: Messages
    media: Media
    customers: Customers
    parked: ParkedTexts
    notices: Notices
    templates: Templates
    is_local: bool
    """Whether the inbox is reached on this machine alone."""
    trusted_proxies: int
