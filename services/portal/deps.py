"""What the routes of the portal work with."""

from dataclasses import dataclass

from libs.common.db.pool import Pool
from libs.common.kafka.producer import Producer
from services.portal.browser import Keys
from services.portal.budget import MissBudget
from services.portal.html import Html
from services.portal.outbox import Outbox
from services.portal.streams import Streams


@dataclass(frozen=True, slots=True)
class Deps:
    """One for a process."""

    pool: Pool
    producer: Producer
    keys: Keys
    outbox: Outbox
    budget: MissBudget
    streams: Streams
    html: Html
    trusted_proxies: int
