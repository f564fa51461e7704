"""The AI agent of the demo: ``examples/agent.py`` as its authors would run it, with the garages' rules and tokens."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import jwt

from deploy.local.demo.garage import Garage
from deploy.local.environment import surroundings
from deploy.local.process_logs import fresh_log, last_line
from deploy.local.up import READY_SECONDS
from deploy.local.watchdog import Watchdog, Watched, end
from libs.common.clock import utc_now
from libs.common.errors import ConfigurationError

FILE = Path(__file__).resolve().parents[3] / "examples" / "agent.py"
CANNED = "Thank you for your message. A colleague will answer you as soon as possible."
"""What it says where the credit is exhausted."""
_LIFE = timedelta(minutes=55)
_SETTINGS = ("TRANSOM_KAFKA_BOOTSTRAP", "TRANSOM_TOPIC_PREFIX", "TRANSOM_INBOX_URL")
_STOP_SECONDS, _POLL = 5.0, 0.1

RULES: Mapping[str, Sequence[tuple[str, str]]] = {
    "AcmeMotors": (("ready", "Your Golf is ready."), ("here I am", "No problem. The Golf waits for you.")),
    "BoltGarage": (("ready", "Not yet. We have a look at it."), ("go ahead", "Thank you! It is ready at five.")),
    "CrownAutos": (("ready", "Almost: we are at the brakes."), ("at six", "Yes, we are here until seven.")),
}
"""By garage: what a customer says, and the answer."""


@contextmanager
def agent(
    watchdog: Watchdog, env: Mapping[str, str], folder: Path, logs: Path, garages: Sequence[Garage]
) -> Iterator[None]:
    """The agent runs inside the block. Raises ConfigurationError where the file is missing: in an installed wheel."""
    if not FILE.is_file():
        raise ConfigurationError(f"the demo needs {FILE.name} beside the sources: run it from the repository")
    rules = folder / "agent-rules.json"
    rules.write_text(json.dumps({garage.org_id: RULES.get(garage.name, ()) for garage in garages}))
    tokens = " ".join(_token(env, garage.org_id) for garage in garages)
    log = fresh_log(logs, "agent")
    process = watchdog.spawn(
        [sys.executable, str(FILE)],
        output=log,
        env={name: env[name] for name in _SETTINGS} | {"AGENT_TOKENS": tokens, "AGENT_RULES": str(rules)},
        base=surroundings(os.environ),
    )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while b"ready" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ConfigurationError(f"the agent is not ready: {last_line(log)}")
            time.sleep(_POLL)
        yield
        if process.poll() is not None:
            raise ConfigurationError(f"the agent ended by itself: {last_line(log)}")
    finally:
        if process.poll() is None:
            end([Watched.of(process.pid)], _STOP_SECONDS)


def _token(env: Mapping[str, str], org_id: str) -> str:
    """A token that may look at the organisation's conversations, and no more."""
    claims = {
        "org_id": org_id,
        "sub": "agent",
        "capabilities": ["messages.view"],
        "aud": env.get("TRANSOM_JWT_AUDIENCE"),
        "iss": env.get("TRANSOM_JWT_ISSUER"),
        "exp": int((utc_now() + _LIFE).timestamp()),
    }
    key = env["TRANSOM_JWT_KEYS"].split(",")[0].strip()
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, "HS256")
