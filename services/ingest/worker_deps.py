"""The dependencies of the worker's handlers and tasks."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.kafka.producer import Producer
from libs.common.log_throttle import PERIOD_SECONDS, LogThrottle
from libs.common.open_service import OpenService
from libs.common.providers.accounts import SmsAccounts
from libs.common.window import Window
from services.ingest.coalescing_producer import EdgePriority
from services.ingest.number_errors import NumberTroubles
from services.ingest.number_gate import NumberGate
from services.ingest.queries import StoredMessage
from services.ingest.sms_gate import SmsGate


@dataclass(frozen=True, slots=True)
class Deps:
    """The dependencies of the worker.

    ``window`` is WINDOW_SECONDS, ``doubt`` WINDOW_DOUBT_SECONDS, ``reaction_opens`` REACTION_OPENS_WINDOW,
    ``platform_host`` the host of PORTAL_URL.
    """

    pool: Pool
    producer: Producer
    window: timedelta
    doubt: timedelta
    now: Clock
    gate: NumberGate
    sms_gate: SmsGate
    priority: EdgePriority = field(default_factory=EdgePriority)
    reaction_opens: bool = False
    platform_host: str | None = None
    troubles: NumberTroubles = field(default_factory=NumberTroubles)
    unknown_words: LogThrottle = field(default_factory=lambda: LogThrottle(PERIOD_SECONDS))

    @classmethod
    def of(
        cls,
        opened: OpenService,
        window: timedelta,
        doubt: timedelta,
        priority: EdgePriority,
        accounts: SmsAccounts,
        *,
        reaction_opens: bool,
        platform_host: str | None,
    ) -> Self:
        """The dependencies on the servers of the service."""
        pool = opened.pool
        gates = NumberGate(pool), SmsGate(pool, accounts)
        return cls(pool, opened.producer, window, doubt, pool.now, *gates, priority, reaction_opens, platform_host)


def window_of(last_customer_at: datetime | None, one: StoredMessage, deps: Deps) -> Window:
    """The WhatsApp window of a message's conversation, as it was with this ``last_customer_at``."""
    refusals = one.first_refused_at, one.last_refused_at
    return Window(last_customer_at, deps.window, deps.doubt, one.identity_changed_at, *refusals)
