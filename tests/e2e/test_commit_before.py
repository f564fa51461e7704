"""A release is rolled out: the code of the commit before runs on the new schema, beside the new code, and on its
events.

What must hold is what always holds: every intent comes to one end, told once, with one call for each message and
attempt.
"""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs.common.db.migrate import migrate
from libs.common.events.base import Event
from libs.common.events.directory import NumberRemoved
from libs.common.events.topics import DIRECTORY_CHANGES, OUTBOUND_INTENTS, PORTAL_MESSAGES, Topic
from tests.e2e.conftest import PARTITIONS, SHORT
from tests.support import databases
from tests.support.accounts import endings
from tests.support.before import BEFORE, NOTE, VARIABLE, NothingBeforeError, commit_before, take, unpack
from tests.support.command import environment, transom_of
from tests.support.garages import FILLED, LATE, Garage, a_garage
from tests.support.sandbox import ROOT
from tests.support.servers import Kind, RunServers
from tests.support.system import CONSUMED, SERVICES, Servers, System
from tests.support.topics import OwnTopics
from tests.support.topologies import EVENTS_OF

SENT, SILENT = ("failed", "window_expired_bridge_sent"), ("failed", "window_expired_bridge_already_sent")
HOUR = 3600
SPECIAL = (DIRECTORY_CHANGES, OUTBOUND_INTENTS, PORTAL_MESSAGES)
"""Topics whose examples come in an order of their own, or name a conversation that there must be."""
EXAMPLES = Path("libs/common/events/examples")
BUGS = {"task.failed", "service.failed", "consumer.stopped", "record.dead_lettered", "row.set_aside"}


@pytest.fixture(scope="module")
def code_before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str | None]:
    """The tree of the commit before. Without one the run says why at its end; a commit that was named must be there."""
    try:
        return take(tmp_path_factory.mktemp("before"))
    except NothingBeforeError as why:
        if commit_before() != BEFORE:
            pytest.fail(f"{VARIABLE}: {why}")
        pytest.skip(f"NOT SHOWN that a release can be rolled out: {why}")


@pytest.fixture
def before(code_before: tuple[Path, str | None], record_property: Callable[[str, object], None]) -> Path:
    root, note = code_before
    if note is not None:
        record_property(NOTE, note)
    return root


@pytest_asyncio.fixture
async def place(before: Path, run_servers: RunServers, topics: OwnTopics, redis_url: str) -> AsyncIterator[Servers]:
    """Servers with the schema of the commit before."""
    postgres_dsn = run_servers.address(Kind.POSTGRES)
    dsn = await databases.make_database(postgres_dsn, "template0")
    try:
        await topics.create(partitions=PARTITIONS)
        await transom_of(before, "migrate", env=environment(POSTGRES_DSN=dsn))
        yield Servers(run_servers.address(Kind.KAFKA), topics.prefix, dsn, redis_url)
    finally:
        await databases.drop_database(postgres_dsn, dsn)


@pytest_asyncio.fixture
async def old_system(before: Path, place: Servers, run_servers: RunServers, tmp_path: Path) -> AsyncIterator[System]:
    """The services of the commit before on its own schema."""
    async with System(place, run_servers.watchdog, tmp_path, **SHORT).of_code(before) as system:
        yield system
        assert not system.leaks()
        assert bugs(tmp_path) == []


def bugs(folder: Path) -> list[Any]:
    """Log lines that tell of one, whatever fields the earlier code gave them.

    The accounts that signed the examples of customers' SMS are not configured here. Such an SMS is a dead letter
    (``account_mismatch``) once it is understood. So is the example of a hold, which names no conversation that is here.
    """
    lines = (line for log in folder.glob("*.log") for line in log.read_text().splitlines() if line.startswith("{"))
    of_examples = ("account_mismatch", "unknown_conversation")
    return [line for line in map(json.loads, lines) if line["event"] in BUGS and line.get("reason") not in of_examples]


async def both_share(system: System) -> None:
    """Every topic is consumed by a replica of each."""

    async def two() -> bool:
        return {await system.members(topic) for topic in CONSUMED} == {2}

    await system.until(two, "old and new share every topic")


async def become(system: System, code: Path, *names: str) -> None:
    """Stop these replicas and start them with other code at the same address: an upgrade, or the way back."""
    codes = await asyncio.gather(*(system.services[name].stop() for name in names))
    assert set(codes) == {0}
    for name in names:
        system.services[name].code = code
    await system.start(*names)


async def a_day(system: System, garage: Garage, customers: int = 1) -> None:
    """Customers write and are answered, on every way; each message comes to its end, called and told once."""
    near = [await garage.customer_who_wrote() for _ in range(customers)]
    late = [await garage.customer_who_wrote(LATE) for _ in range(customers)]
    refused = [await garage.customer_who_wrote(HOUR) for _ in range(customers)]
    for customer in refused:  # Meta says that the window is closed: the sender refuses, the router decides again
        await system.sandbox.fault("meta", "fail", code=131047, calls=1, to=customer.phone)
    intents = [
        *(customer.intent("Your Golf is ready.") for customer in near),
        *(customer.intent(actor="staff", content={"kind": "template", **FILLED}) for customer in near),
        *(customer.intent("Shall we keep it overnight?") for customer in late),
        *(customer.intent("Are you there?") for customer in late),
        *(customer.intent("It is ready since noon.") for customer in refused),
    ]
    by_sms = [customer.intent("It is on the SMS too.", channel="sms") for customer in near]
    await system.intend(*intents, *by_sms)

    async def ended() -> bool:
        waiting = (
            "select count(*) from messages where org_id = $1 and direction = 'out'"
            " and status not in ('read', 'delivered', 'failed')"
        )
        decided = "select count(*) from decisions where org_id = $1 and intent_id = any($2::uuid[]) and attempt = 1"
        wanted = [intent["intent_id"] for intent in (*intents, *by_sms)]
        return (await system.value(decided, garage.org_id, wanted), await system.value(waiting, garage.org_id)) == (
            len(wanted),
            0,
        )

    await system.until(ended, "every intent ends")
    await system.quiet()
    assert await endings(system, intents) == {("read", None): 2 * customers, SENT: 2 * customers, SILENT: customers}
    for customer in (*late, *refused):
        assert len(await customer.texts()) == 1, "one bridge in a day"
    calls = Counter(str(one["callback"]) for one in [*await system.sandbox.messages(), *await system.sandbox.sms()])
    assert [callback for callback, times in calls.items() if times > 1] == []


def test_where_there_is_no_commit_before_it_is_said_why(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=e@example.com")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    def why(commit: str, clone: str) -> str:
        with pytest.raises(NothingBeforeError) as said:
            unpack(tmp_path, commit, tmp_path / clone)
        return str(said.value)

    try:
        git("init", "-q", "young")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    git("-C", "young", "commit", "-q", "--allow-empty", "-m", "The first")
    assert "HEAD is its first commit" in why(BEFORE, "young")
    git("-C", "young", "commit", "-q", "--allow-empty", "-m", "The second")
    git("clone", "-q", "--depth=1", f"file://{tmp_path}/young", "shallow")
    assert "git fetch --deepen=1" in why(BEFORE, "shallow")
    assert "does not hold v9" in why("v9", "young")
    (tmp_path / "young" / "inner").mkdir()
    assert "is no clone" in why(BEFORE, "young/inner")
    (tmp_path / "plain").mkdir()
    assert "is no clone" in why(BEFORE, "plain")


@pytest.mark.timeout(300)
async def test_a_release_is_rolled_out_while_messages_flow(before: Path, old_system: System) -> None:
    system = old_system
    garage = await a_garage(system)
    await a_day(system, garage)

    await migrate(system.servers.postgres_dsn, phase="pre")  # under the feet of the old code
    await a_day(system, garage)

    for service in SERVICES:
        system.add(service, f"{service}-new")
    await system.start(*(f"{service}-new" for service in SERVICES))
    await both_share(system)
    await a_day(system, garage, customers=4)

    await asyncio.gather(*(system.services.pop(f"{service}-new").stop() for service in SERVICES))
    await become(system, ROOT, "ingest", "router")
    await a_day(system, garage)  # what the new code tells comes to the old senders


@pytest.mark.proof
@pytest.mark.timeout(600)
async def test_a_release_is_rolled_out_in_another_order_with_kills_and_taken_back(
    before: Path, old_system: System
) -> None:
    system = old_system
    garage = await a_garage(system)
    await migrate(system.servers.postgres_dsn, phase="pre")
    garage_of_old_code = await a_garage(system, "Old Motors")
    await a_day(system, garage_of_old_code)

    await become(system, ROOT, "whatsapp-sender", "sms-bridge")
    await a_day(system, garage, customers=3)  # what the new senders refuse is decided again by the old router
    for service in SERVICES:
        system.add(service, f"{service}-new")
    await system.start(*(f"{service}-new" for service in SERVICES))
    await both_share(system)
    day = asyncio.create_task(a_day(system, garage, customers=6))
    for name in ("router", "ingest-new", "whatsapp-sender-new", "ingest", "sms-bridge"):
        await system.services[name].kill()
        await system.start(name)
    await day

    await asyncio.gather(*(system.services.pop(f"{service}-new").stop() for service in SERVICES))
    await become(system, before, *SERVICES)
    await a_day(system, garage, customers=3)  # on what the new code has stored

    # every event of this commit, with every field it may have, is understood by the commit before
    first = (event for event in EVENTS_OF[DIRECTORY_CHANGES] if event is not NumberRemoved)
    others = (topic for topic in EVENTS_OF if topic.name in CONSUMED and topic not in SPECIAL)
    await consumes(system, before, *((DIRECTORY_CHANGES, event) for event in first))
    intents = ((OUTBOUND_INTENTS, event) for event in EVENTS_OF[OUTBOUND_INTENTS])
    await consumes(system, before, *intents)  # a refusal names one of them: read before it, it is a dead letter
    await consumes(system, before, *((topic, event) for topic in others for event in EVENTS_OF[topic]))
    await consumes(system, before, (DIRECTORY_CHANGES, NumberRemoved))


async def consumes(system: System, before: Path, *events: tuple[Topic, type[Event]]) -> None:
    """The system consumes the examples of these events, such as the commit before has in the same version."""
    for topic, event in events:
        example = EXAMPLES / f"{event.TYPE}.json"
        if (before / example).exists():
            await system.say(topic.name, (ROOT / example).read_bytes(), key="example")

    async def consumed() -> bool:
        return not any(lag for lag, _end in (await system.behind(CONSUMED)).values())

    await system.until(consumed, "every example is consumed")
