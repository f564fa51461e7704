"""The example agent answers customers on the public interfaces, once each, and holds back where it should."""

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from libs.common.events.intents import Intent, decode_intent
from libs.common.events.topics import INBOUND_MESSAGES, OUTBOUND_INTENTS
from libs.common.kafka.producer import Producer, Record
from tests.support.command import environment, running
from tests.support.inbox import RunningInbox, a_token
from tests.support.inbox_thread import InboxThread, a_thread, publishing
from tests.support.published import Published, published_on
from tests.support.sandbox import ROOT

FILE = ROOT / "examples" / "agent.py"
DAY = timedelta(days=1)


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_agent", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


agent = _module()


@pytest_asyncio.fixture(scope="module")
async def producer(inbox: RunningInbox) -> AsyncIterator[Producer]:
    async with publishing(inbox) as made:
        yield made


@pytest_asyncio.fixture(scope="module")
async def intents(inbox: RunningInbox) -> AsyncIterator[Published]:
    kafka = inbox.kafka
    async with published_on(kafka.bootstrap, kafka.topic_prefix, [OUTBOUND_INTENTS, INBOUND_MESSAGES]) as following:
        yield following


@asynccontextmanager
async def an_agent(kim: InboxThread) -> AsyncIterator[Any]:
    """The agent of Kim's organisation, with a token that may only look."""
    tokens = agent.Tokens({"AGENT_TOKENS": a_token(kim.org_id, "agent", ["messages.view"])})
    kafka = kim.inbox.kafka
    async with aiohttp.ClientSession() as http, AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as sending:
        yield agent.Agent(http, kim.inbox.url, sending, tokens=tokens, prefix=kafka.topic_prefix)


async def of(kim: InboxThread, intents: Published) -> list[Intent]:
    """The intents of Kim's conversation so far, as the router reads them."""
    found = [decode_intent(record.value) for record in await intents.records(OUTBOUND_INTENTS)]
    return [one for one in found if isinstance(one, Intent) and one.conversation_id == kim.conversation_id]


async def record_of(kim: InboxThread, message_id: UUID, intents: Published) -> bytes:
    """The record of Kim's message on Kafka."""
    for record in await intents.records(INBOUND_MESSAGES):
        if str(message_id).encode() in (record.value or b""):
            return record.value or b""
    raise AssertionError("the message is not published")


async def test_a_question_gets_one_answer_however_often_it_is_read(
    inbox: RunningInbox, producer: Producer, intents: Published
) -> None:
    kim = await a_thread(inbox, producer)
    value = await record_of(kim, await kim.customer_writes("Hello!"), intents)
    async with an_agent(kim) as one:
        await one.answer_all([value, b"no JSON", None, b"[]", value])
    first, again = await of(kim, intents)
    assert first.intent_id == again.intent_id
    assert (first.actor.kind, first.channel) == ("ai", "auto")
    assert first.content.model_dump()["text"] == "Hello Kim! How can we help?"


SILENT = ["held", "staff answered", "newer message", "exhausted and closed", "stop", "reaction", "of nobody's token"]


@pytest.mark.parametrize("why", SILENT)
async def test_it_holds_back(inbox: RunningInbox, producer: Producer, intents: Published, why: str) -> None:
    kim = await a_thread(inbox, producer)
    match why:
        case "reaction":
            wrote = await kim.customer_writes(content={"kind": "reaction", "message_id": "wamid.1", "emoji": "👍"})
        case "exhausted and closed":
            wrote = await kim.customer_writes(at=inbox.pool.now() - 2 * DAY)
            await kim.run("update orgs set credit_exhausted = true where org_id = $1", kim.org_id)
        case _:
            wrote = await kim.customer_writes("Is it ready?")
    value = await record_of(kim, wrote, intents)
    answering = kim
    match why:
        case "held":
            await kim.is_held(inbox.pool.now() + timedelta(hours=1))
        case "staff answered":
            await kim.is_answered(actor="staff", publish=False)
        case "newer message":
            await kim.customer_writes("Hello?", publish=False)
        case "stop":
            value = value.replace(b'"keyword":null', b'"keyword":"stop"')
            assert b'"stop"' in value
        case "of nobody's token":
            answering = await a_thread(inbox, producer)
    async with an_agent(answering) as one:
        await one.answer_all([value])
    assert await of(kim, intents) == []


async def test_an_organisation_whose_token_is_refused_holds_up_nobody_else(
    inbox: RunningInbox, producer: Producer, intents: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "_AGAIN_SECONDS", 0.01)
    kim, lee, may = [await a_thread(inbox, producer) for _ in range(3)]
    values = [await record_of(one, await one.customer_writes("Hello!"), intents) for one in (kim, lee, may)]
    async with an_agent(kim) as one:
        tokens = one._tokens.of_org
        tokens[lee.org_id] = a_token(lee.org_id, "agent", ["messages.view"]) + "forged"  # 401
        tokens[may.org_id] = a_token(may.org_id, "agent", [])  # 403
        monkeypatch.setattr(one._tokens, "read", lambda: None)
        async with asyncio.timeout(30):
            await one.answer_all(values)
    assert [len(await of(each, intents)) for each in (kim, lee, may)] == [1, 0, 0]


async def test_with_exhausted_credit_the_canned_reply_goes_while_the_window_is_open(
    inbox: RunningInbox, producer: Producer, intents: Published
) -> None:
    kim = await a_thread(inbox, producer)
    await kim.run("update orgs set credit_exhausted = true where org_id = $1", kim.org_id)
    value = await record_of(kim, await kim.customer_writes("Hello!"), intents)
    async with an_agent(kim) as one:
        await one.answer_all([value])
    (only,) = await of(kim, intents)
    assert only.content.model_dump()["text"] == agent.Rules().canned


async def test_who_comes_back_hears_what_they_missed_but_not_what_they_read_in_the_portal(
    inbox: RunningInbox, producer: Producer, intents: Published
) -> None:
    kim = await a_thread(inbox, producer)
    await kim.customer_writes("Is it ready?", publish=False)
    await kim.is_answered("Shall we keep it?", status="failed", reason="window_expired_bridge_sent", publish=False)
    read = await kim.is_answered("It needs oil.", status="failed", reason="window_expired_bridge_sent", publish=False)
    await kim.run("update messages set status = 'read', read_channel = 'portal' where message_id = $1", read)
    value = await record_of(kim, await kim.customer_writes("Thanks!"), intents)
    async with an_agent(kim) as one:
        await one.answer_all([value])
    (only,) = await of(kim, intents)
    text = only.content.model_dump()["text"]
    assert "“Shall we keep it?”" in text
    assert "oil" not in text


async def test_the_process_answers_survives_a_kill_and_says_the_same_again(
    inbox: RunningInbox, producer: Producer, intents: Published
) -> None:
    kim = await a_thread(inbox, producer)
    env = environment(
        KAFKA_BOOTSTRAP=inbox.kafka.bootstrap, TOPIC_PREFIX=inbox.kafka.topic_prefix, INBOX_URL=inbox.url
    ) | {"AGENT_TOKENS": a_token(kim.org_id, "agent", ["messages.view"]), "AGENT_INSTANCE": "one"}
    command = (sys.executable, str(FILE))
    async with running(*command, env=env, stderr=asyncio.subprocess.PIPE) as first:
        await _until(first, b"ready")
        wrote = await kim.customer_writes("Hello!")
        await _until(first, f"answered {wrote}".encode())
        first.kill()
        await first.wait()
    again = Record(INBOUND_MESSAGES, str(kim.conversation_id).encode(), await record_of(kim, wrote, intents))
    await producer.publish([again])
    async with running(*command, env=env, stderr=asyncio.subprocess.PIPE) as second:
        await _until(second, f"answered {wrote}".encode())
        second.terminate()
        assert await second.wait() == 0
    assert len({one.intent_id for one in await of(kim, intents)}) == 1


async def test_it_says_before_the_first_message_whose_token_the_inbox_refuses(
    inbox: RunningInbox, producer: Producer
) -> None:
    kim, may = [await a_thread(inbox, producer) for _ in range(2)]
    forged, blind = a_token("forged", "agent", ["messages.view"]) + "x", a_token(may.org_id, "agent", [])
    kafka = environment(
        KAFKA_BOOTSTRAP=inbox.kafka.bootstrap, TOPIC_PREFIX=inbox.kafka.topic_prefix, INBOX_URL=inbox.url
    )
    command = (sys.executable, str(FILE))
    some = kafka | {"AGENT_TOKENS": f"{forged} {a_token(kim.org_id, 'agent', ['messages.view'])}"}
    async with running(*command, env=some, stderr=asyncio.subprocess.PIPE) as process:
        await _until(process, b"the inbox refuses the token of forged: it says 401")
        await _until(process, b"ready")
    none = kafka | {"AGENT_TOKENS": f"{forged} {blind}"}
    async with running(*command, env=none, stderr=asyncio.subprocess.PIPE) as process:
        await _until(process, b"the inbox refuses the token of forged: it says 401")
        await _until(process, f"the inbox refuses the token of {may.org_id}: it says 403".encode())
        await _until(process, b"ready once the inbox takes a token with the capability messages.view")


A_TOKEN = a_token("acme", "agent", ["messages.view"])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"TRANSOM_INBOX_URL": ""}, "set TRANSOM_INBOX_URL"),
        ({"AGENT_TOKENS": ""}, "set AGENT_TOKENS"),
        ({"AGENT_TOKENS": f"{A_TOKEN},s3cret"}, "AGENT_TOKENS: a word in it is no token of the inbox"),
        ({"AGENT_TOKENS_FILE": "/nowhere/tokens"}, "AGENT_TOKENS_FILE: [Errno 2] No such file or directory"),
        ({"AGENT_RULES": "/nowhere/rules"}, "AGENT_RULES: /nowhere/rules holds no rules"),
        ({"AGENT_RULES": str(FILE)}, f"AGENT_RULES: {FILE} holds no rules"),
        ({"TRANSOM_KAFKA_BOOTSTRAP": "127.0.0.1:9"}, "Is TRANSOM_KAFKA_BOOTSTRAP right?"),
    ],
)
async def test_a_setting_that_is_missing_or_wrong_is_named_in_one_line(given: dict[str, str], named: str) -> None:
    env = environment() | {"TRANSOM_INBOX_URL": "http://127.0.0.1:9", "AGENT_TOKENS": A_TOKEN} | given
    async with running(sys.executable, str(FILE), env=env, stderr=asyncio.subprocess.PIPE) as process:
        _, said = await process.communicate()
    assert process.returncode == 2
    assert named in said.decode().splitlines()[-1]
    assert "Traceback" not in said.decode()
    assert "s3cret" not in said.decode()


@pytest.mark.parametrize("rules", ['["acme"]', '{"acme": "ready"}', '{"acme": [["(", "Your Golf is ready."]]}'])
def test_a_file_without_rules_is_refused_before_the_first_message(tmp_path: Path, rules: str) -> None:
    file = tmp_path / "rules.json"
    file.write_text(rules)
    with pytest.raises(agent.SettingError, match=r"AGENT_RULES: .*rules\.json holds no rules"):
        agent.Rules.of({"AGENT_RULES": str(file)})


async def _until(process: asyncio.subprocess.Process, line: bytes) -> None:
    assert process.stderr is not None
    async with asyncio.timeout(40):
        while line not in (said := await process.stderr.readline()):
            assert said, "the agent ended"


def test_another_message_has_another_intent() -> None:
    one = {"org_id": "acme", "message_id": str(uuid4())}
    assert agent.intent_id(one) != agent.intent_id({**one, "message_id": str(uuid4())})
    assert agent.intent_id(one) != agent.intent_id({**one, "org_id": "bolt"})
