"""The requests that the providers got and the webhooks that they posted; the newest records only."""

from collections import deque
from itertools import count, islice

from deploy.local.sandbox.schemas import Json

KEPT = 20_000


class RecordLog:
    """Records numbered from 1, the newest ``kept`` of them. ``total`` counts all that were ever added."""

    def __init__(self, kept: int) -> None:
        self._records: deque[Json] = deque(maxlen=kept)
        self._numbers = count(1)
        self.total = 0

    def add(self, record: Json) -> Json:
        """Add a record and number it (``n``). The caller may complete it later."""
        record["n"] = self.total = next(self._numbers)
        self._records.append(record)
        return record

    def after(self, n: int, limit: int) -> list[Json]:
        """Records numbered above ``n``, oldest first, at most ``limit`` of them."""
        if not self._records or self.total <= n:
            return []
        skip = max(0, n + 1 - int(self._records[0]["n"]))
        return list(islice(self._records, skip, skip + limit))

    def newest_first(self) -> list[Json]:
        return list(reversed(self._records))


class Ledger:
    """Seven logs.

    ``calls``: every request to a provider's endpoint, with its outcome. ``messages`` and ``sms``: what the providers
    accepted, and so sent, whatever the caller got as an answer. ``refused_sms``: what Twilio refused and yet lists.
    ``received_sms``: what customers sent by Twilio. ``webhooks``: what was posted, with the answers.
    ``template_calls``: requests about Meta's templates.
    """

    def __init__(self, kept: int) -> None:
        self.calls, self.messages, self.sms, self.refused_sms, self.webhooks = (RecordLog(kept) for _ in range(5))
        self.received_sms, self.template_calls = RecordLog(kept), RecordLog(kept)
