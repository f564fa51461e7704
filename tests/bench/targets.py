"""What was promised of which figure, by the figure's name in the table.

Rule 1: a ratio to the floor of the same run binds: it is reached or missed.
Rule 2: an absolute figure is an aim for the machine kind of the page `speed.md` (2 cores for all): it is neither.
"""

from collections.abc import Mapping

from tests.bench.figures import Target

SERVICES = ("ingest", "router", "whatsapp-sender", "sms-bridge")
_LISTED, _MEMORY = Target("aim", 50.0), Target("aim", 100.0)
CALLED = "intent → provider call"
_CALLED = {
    f"{CALLED}, {pace}, {share}": (Target("ratio", 1.5), *([Target("aim", 60.0)] if share == "p99" else []))
    for pace in ("idle", "100/s", "1,000/s")
    for share in ("p50", "p99")
}

TARGETS: Mapping[str, tuple[Target, ...]] = {
    "statuses": (Target("ratio", 0.6), Target("aim", 25_000.0)),
    "statuses, all processor time each": (Target("aim", 60.0),),
    "sending": (Target("ratio", 0.7), Target("aim", 4_500.0)),
    "sending, all processor time each": (Target("aim", 400.0),),
    "sending, provider answers after 100 ms": (Target("aim", 3_000.0),),
    "through": (Target("ratio", 0.8),),
    "through, each in a conversation of its own": (Target("ratio", 0.7),),
    "routing": (Target("ratio", 0.8),),
    "routing, each in a conversation of its own": (Target("ratio", 0.7),),
    "intake, edge alone": (Target("ratio", 0.8),),
    "intake, edge and worker in one process": (Target("ratio", 0.6),),
    **_CALLED,
    "one conversation at 100/s, p99": (Target("aim", 80.0),),
    "later than without them, p50": (Target("aim", 100.0),),
    "message stored → event at every stream, p95": (Target("aim", 300.0),),
    "answer posted → event at every colleague's stream, p95": (Target("aim", 300.0),),
    "memory with 1,000 streams, inbox": (Target("aim", 250.0),),
    "context of a conversation, p95": (Target("aim", 20.0),),
}


_FAMILIES = (
    ("memory at rest, ", "", _MEMORY),
    ("memory under load, ", "", _MEMORY),
    ("at rest, processor time per second, ", "", Target("aim", 5.0)),
    ("start → ready, ", "", Target("aim", 1_500.0)),
    ("list, ", ", p95", _LISTED),
    ("one conversation, ", "p95", _LISTED),
    ("messages of a conversation, ", "p95", _LISTED),
)
"""How the names of a family begin and end."""


def targets(name: str) -> tuple[Target, ...]:
    """Of the figure of that name; none for most."""
    family = tuple(target for begin, end, target in _FAMILIES if name.startswith(begin) and name.endswith(end))
    return TARGETS.get(name, family)
