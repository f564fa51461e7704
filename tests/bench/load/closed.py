"""Requests as fast as they are answered: so many connections, the next request when the last is answered.

``python -m tests.bench.load.closed '{"kind": "webhooks" | "pages", "port": …, "population": …, "connections": …,
"requests": …, "seconds": …, "run": …}'`` prints one JSON object: answers per second, percentiles of their delay in
milliseconds, refusals. ``pages`` are the portal's: each reader's in turn. A process of its own, so that it shares no
event loop with anybody.
"""

import asyncio
import json
import sys
from time import perf_counter
from typing import Any

import uvloop

from libs.common.clock import utc_now
from tests.bench.figures import percentile
from tests.bench.load.wire import Wire
from tests.bench.traffic import READERS, page_request, rounds, signed_request, wamid, webhook

_HOST = "127.0.0.1"
_WARM_UP_SECONDS = 1.0


async def drive(given: dict[str, Any]) -> dict[str, float]:
    """Warm up, then count for ``seconds``.

    Every webhook is a message of its own until ``requests`` were made; then they come again.
    """
    port = given["port"]
    requests = _webhooks(given) if given["kind"] == "webhooks" else [page_request(r) for r in range(READERS)]
    begins_at = utc_now().timestamp() + _WARM_UP_SECONDS
    begins = perf_counter() + _WARM_UP_SECONDS
    ends = begins + given["seconds"]
    delays: list[float] = []
    refused = next_one = 0

    async def one_after_the_other() -> None:
        nonlocal refused, next_one
        wire = await Wire.connect(_HOST, port)
        while (sent := perf_counter()) < ends:
            request = requests[next_one % len(requests)]
            next_one += 1
            status = await wire.ask(request)
            answered = perf_counter()
            if begins <= answered < ends:
                if status == 200:
                    delays.append((answered - sent) * 1000)
                else:
                    refused += 1
        wire.close()

    await asyncio.gather(*(one_after_the_other() for _ in range(given["connections"])))
    return {
        "begins_at": begins_at,
        "answered": len(delays),
        "rate": len(delays) / given["seconds"],
        "p50_ms": percentile(delays, 0.5),
        "p99_ms": percentile(delays, 0.99),
        "refused": refused,
        "sent": next_one,
    }


def _webhooks(given: dict[str, Any]) -> list[bytes]:
    at = utc_now()
    return [
        signed_request(f"{_HOST}:{given['port']}", webhook(n, wamid(n, f"{given['run']}.{i}"), at))
        for i, n in enumerate(rounds(given["population"], given["requests"], seed=i_of(given["run"])))
    ]


def i_of(run: str) -> int:
    """A seed that follows from the run's name, the same in every interpreter."""
    return int.from_bytes(run.encode()[:8])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(drive(json.loads(sys.argv[1])))))  # noqa: T201 -- its answer
