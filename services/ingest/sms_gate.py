"""The gate of customers' SMS: to which organisation the called number belongs.

Rule 1: tenants never meet. An SMS to a line that no organisation has is a dead letter (``unknown_number``).
Rule 2: an SMS counts for an organisation only where it was signed by the account that the organisation uses. Any other
        is a dead letter (``account_mismatch``): a tenant's own secret signs for nobody else.
Rule 3: a customer answers, or says STOP, at the number that wrote to them. So the number and the account that an
        organisation has left count for it for 30 days, until another organisation has the line.
Rule 4: such dead letters stop nothing. Each organisation and reason is logged at once and then once a minute.
        ``transom replay --dlq`` feeds them through again when the directory has the number.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from libs.common.db.pool import Pool
from libs.common.kafka.records import Received, Reject
from libs.common.log_aggregator import LogAggregator, Report
from libs.common.logging import get_logger
from libs.common.phone import canonical
from libs.common.providers.accounts import SmsAccounts
from services.ingest import sms_queries
from services.ingest.items import InboundSms, Item
from services.ingest.sms_parts import OrgSms, country_called
from services.ingest.sms_queries import CalledNumber

log = get_logger()

Reason = Literal["unknown_number", "account_mismatch"]
_DETAILS: dict[Reason, str] = {
    "unknown_number": "the SMS number belongs to no organisation",
    "account_mismatch": "the organisation of the SMS number uses another account than the one that signed",
}
_EVENTS: dict[Reason, Literal["number.unknown", "number.account_mismatch"]] = {
    "unknown_number": "number.unknown",
    "account_mismatch": "number.account_mismatch",
}
_Key = tuple[Reason, str | None, str]
"""Reason, organisation, provider."""


@dataclass(slots=True)
class SmsGate:
    """Lets through what is for an SMS number of an organisation, by the organisation's account."""

    pool: Pool
    accounts: SmsAccounts
    _rejected: LogAggregator[_Key, Reason] = field(default_factory=LogAggregator)

    async def admit(self, batch: Sequence[Received[Item]]) -> tuple[list[OrgSms], list[Reject]]:
        """The SMS with their organisations, and the records that are for none. One round trip, or none."""
        asked = [(received, received.value) for received in batch if isinstance(received.value, InboundSms)]
        if not asked:
            return [], []
        lines = sorted({canonical(sms.to) for _, sms in asked})
        async with self.pool.acquire() as db:
            ours: defaultdict[str, list[CalledNumber]] = defaultdict(list)
            for one in await sms_queries.called_numbers(db, lines):
                ours[one.sms_line].append(one)
        admitted: list[OrgSms] = []
        rejected: list[tuple[_Key, Reject]] = []
        for received, sms in asked:
            found = ours.get(canonical(sms.to), [])
            called = next((one for one in found if self._is_signed_for(one, sms)), None)
            if called is None:
                reason: Reason = "account_mismatch" if found else "unknown_number"
                key: _Key = (reason, found[0].org_id if found else None, sms.provider)
                rejected.append((key, Reject(received.record, reason, _DETAILS[reason])))
            else:
                admitted.append(OrgSms(called.org_id, country_called(called.country, called.sms_line), sms))
        now = asyncio.get_running_loop().time()
        for key, count in Counter(key for key, _ in rejected).items():
            if (due := self._rejected.add(key, key[0], now, count)) is not None:
                _log(due)
        return admitted, [reject for _, reject in rejected]

    async def log(self) -> None:
        """Log what was counted since."""
        for due in self._rejected.due(asyncio.get_running_loop().time()):
            _log(due)

    def _is_signed_for(self, called: CalledNumber, sms: InboundSms) -> bool:
        account = self.accounts.of(called.sms_provider, called.sms_account)
        return account is not None and account.key == (sms.provider, sms.account)


def _log(due: Report[_Key, Reason]) -> None:
    reason, org_id, provider = due.key if due.key is not None else (due.sample, None, None)
    log.error(
        _EVENTS[reason],
        org_id=org_id,
        records=due.count,
        reason=reason,
        channel="sms",
        provider=provider,
    )
