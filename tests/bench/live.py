"""The inbox: a customer's message on its way to every open stream of its organisation, what a thousand streams weigh,
and the context that an AI agent asks for.

An answer of staff goes by Kafka and the real router before it is told, to its author too.

The streams belong to a hundred organisations, ten people each. A message counts as told once it stands at the last of
its ten streams, and from the moment at which it was due to be stored.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from libs.common.events.topics import TOPICS
from tests.bench.figures import Better, percentile
from tests.bench.rounds import Bench
from tests.bench.seed import messages
from tests.bench.stage import Ground, Stage, ask
from tests.bench.traffic import READERS

STREAMS = 1_000
_RATE = 20.0  # messages a second, over all organisations
_CONTEXTS = 400
_ANSWERS, _ANSWERS_RATE = 100, 10.0  # the rate a second
_TOLD_P50, _TOLD_P95 = "message stored → event at every stream, p50", "message stored → event at every stream, p95"
_SAID_P50, _SAID_P95 = (
    "answer posted → event at every colleague's stream, p50",
    "answer posted → event at every colleague's stream, p95",
)
_MEMORY = f"memory with {STREAMS:,} streams, inbox"
_CONTEXT_P50, _CONTEXT_P95 = "context of a conversation, p50", "context of a conversation, p95"
_CONTEXT_OWN = "context of a conversation, own processor time each"
FIGURES: Mapping[str, tuple[str, Better]] = {
    _TOLD_P50: ("ms", "less"),
    _TOLD_P95: ("ms", "less"),
    _SAID_P50: ("ms", "less"),
    _SAID_P95: ("ms", "less"),
    _MEMORY: ("MB", "less"),
    _CONTEXT_P50: ("ms", "less"),
    _CONTEXT_P95: ("ms", "less"),
    _CONTEXT_OWN: ("µs", "less"),
}
"""The unit of each figure, and which way is better."""


async def part(bench: Bench) -> None:
    """What the inbox tells, and to how many, on the largest population. It has no floor."""
    largest = bench.populations[-1]
    try:
        for number in range(1, bench.size.rounds + 1):
            bench.say(f"live, round {number}: {STREAMS:,} streams, {largest:,} conversations")
            of = f", {messages(largest):,} messages"
            for name, value in (await live(bench.stage, largest, bench.size.portal_seconds)).items():
                bench.values(name + of).append(value)
    finally:
        for name, (unit, better) in FIGURES.items():
            bench.figure(name, unit, better, of=f", {messages(largest):,} messages")


async def live(stage: Stage, population: int, seconds: float) -> dict[str, float]:
    """All figures, of one process."""
    async with (
        stage.ground(population, TOPICS) as ground,
        ground.service("router", load=None) as router,
        ground.service("inbox", load=None) as running,
    ):
        found = await ask("inbox_streams", _given(ground, running.port, population, seconds), [running, router])
        spent = running.seconds_between(found["asked_at"], found["answered_at"])
        return {
            _TOLD_P50: percentile(found["told"], 0.5),
            _TOLD_P95: percentile(found["told"], 0.95),
            _SAID_P50: percentile(found["said"], 0.5),
            _SAID_P95: percentile(found["said"], 0.95),
            _MEMORY: running.peak_mb,
            _CONTEXT_P50: percentile(found["context"], 0.5),
            _CONTEXT_P95: percentile(found["context"], 0.95),
            _CONTEXT_OWN: spent / (len(found["context"]) + READERS) * 1e6,
        }


def _given(ground: Ground, port: int, population: int, seconds: float) -> dict[str, object]:
    env = ground.env
    return {
        "port": port,
        "host": urlsplit(env["TRANSOM_INBOX_URL"]).netloc,
        "dsn": ground.dsn,
        "bootstrap": ground.connection.bootstrap,
        "prefix": ground.connection.topic_prefix,
        "jwt": {
            "key": env["TRANSOM_JWT_KEYS"].split(",")[0],
            "aud": env.get("TRANSOM_JWT_AUDIENCE"),
            "iss": env.get("TRANSOM_JWT_ISSUER"),
        },
        "population": population,
        "streams": STREAMS,
        "rate": _RATE,
        "seconds": seconds,
        "contexts": _CONTEXTS,
        "answers": _ANSWERS,
        "answers_rate": _ANSWERS_RATE,
    }
