"""How many bridges the organisations send today: the figures of the alert, and a log line that names who nears its cap.

An agent that writes to every customer of a garage buys a bridge for each of them. The cap on SMS stops it
(``spend_cap_reached``). People should know before.

Every replica reads the same rows once a minute, so the largest value over the replicas is the figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from libs.common import metrics
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.logging import get_logger
from libs.common.periodic import Task
from libs.common.sending import sms_caps

log = get_logger()

PERIOD = timedelta(minutes=1)
MOST = 1_000
"""The shares are computed of so many organisations, those with the most bridges."""
NEAR = 0.8
"""The share of the day's segments from which on an organisation is named."""
LOG_EVERY = timedelta(hours=1)


@dataclass(slots=True)
class BridgeCounts:
    """Measures once a minute. Each process logs an organisation once an hour."""

    pool: Pool
    now: Clock
    _logged: dict[str, datetime] = field(default_factory=dict)

    @property
    def tasks(self) -> Mapping[str, Task]:
        return {"bridge_counts": (PERIOD, self.measure)}

    async def measure(self) -> None:
        """Set the gauges, and name the organisations that near their cap."""
        now = self.now()
        async with self.pool.acquire() as db:
            busiest = await sms_caps.busiest(db, now.date(), MOST)
        metrics.BRIDGES_OF_ONE.set(busiest[0].bridges if busiest else 0)
        metrics.BRIDGES_SHARE.set(max(map(_share, busiest), default=0.0))
        self._logged = {org_id: at for org_id, at in self._logged.items() if now - at < LOG_EVERY}
        for one in busiest:
            if _share(one) >= NEAR and one.org_id not in self._logged:
                self._logged[one.org_id] = now
                log.warning("bridges.near_cap", org_id=one.org_id, segments=one.bridges, detail=f"of {one.cap} a day")


def _share(one: sms_caps.BridgesOfDay) -> float:
    """With a cap of 0 no bridge is bought. What was bought before it was lowered is all of it."""
    return one.bridges / one.cap if one.cap else 1.0
