"""A small AI agent without a model: it answers customers by rules, on Transom's public interfaces alone.

It reads ``inbound.messages.v1``, asks the inbox for the conversation's context, and answers on ``outbound.intents.v1``.
Put a model in the place of ``Rules.answer``, and keep the rest: when an agent answers, and when it does not.

Rule 1: one message gets one answer. The intent's id is derived from the message's id, so a record that Kafka delivers
        again makes the same intent, and Transom sends it once.
Rule 2: offsets are committed once Kafka has the answers. What was read before a crash is read again.
Rule 3: staff come first. The agent is silent while they hold the conversation, and where somebody has answered already.
Rule 4: with exhausted credit it sends the canned reply while the window is open, and nothing while it is closed.
Rule 5: STOP and START are no questions. Neither are reactions, messages of groups, and what it cannot read.
Rule 6: of several messages in a row the newest is answered: the context has the others.
Rule 7: an organisation whose token the inbox goes on refusing gets no answers, and holds up nobody else's. The log
        names it; its staff see the messages in the inbox.

    AGENT_TOKENS="$(transom token --org example --user agent --capabilities messages.view)" python examples/agent.py

Settings: ``TRANSOM_KAFKA_BOOTSTRAP``, ``TRANSOM_TOPIC_PREFIX``, ``TRANSOM_INBOX_URL``; ``AGENT_TOKENS``, one token for
each organisation, or ``AGENT_TOKENS_FILE``, which is read again when a token has expired; ``AGENT_RULES``, a file (see
``Rules``); ``AGENT_INSTANCE``, a name of this process, with which it gets its partitions back at once after a restart.
The file needs aiokafka and aiohttp, and nothing of Transom.
"""

import asyncio
import base64
import json
import logging
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

log = logging.getLogger("agent")

INBOUND, INTENTS = "inbound.messages.v1", "outbound.intents.v1"
LIFE = timedelta(hours=24)
"""An answer that could not go for so long is not sent any more."""
_ANSWERS = UUID("6f1f1c9e-3d0b-5c57-9a52-2b7f6f0b7a10")
_AGAIN_SECONDS = 1.0
_REFUSALS = 30
"""So often a token is tried before its organisation is left out: one that is being renewed is late by less."""
_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_MOST_TEXT = 4_096
_READABLE = frozenset({"text", "button", "interactive", "image", "video", "audio", "document", "location", "order"})

Context = Mapping[str, Any]
Event = Mapping[str, Any]


class SettingError(Exception):
    """A setting is missing or cannot be used. The text names it and says what it should be."""


@dataclass(frozen=True)
class Rules:
    """What to say: ``replies`` are (pattern, answer), by organisation, and under ``*`` for all. The first match counts.

    In an answer ``{name}`` is the customer's name. A file of rules is JSON: ``{"acme": [["ready", "Your Golf is
    ready."]], "*": [[".", "Thank you. A colleague will answer you."]]}``.
    """

    replies: Mapping[str, list[tuple[str, str]]] = field(
        default_factory=lambda: {
            "*": [
                (r"\b(hello|hi|hey|good (morning|afternoon|evening))\b", "Hello {name}! How can we help?"),
                (r"\b(ready|done|finished)\b", "We are looking into it, and write as soon as your car is ready."),
                (r"\b(thank|thanks|great|perfect)\b", "You are welcome!"),
                (r".", "Thank you for your message. A colleague will answer you."),
            ]
        }
    )
    canned: str = "Thank you for your message. A colleague will answer you as soon as possible."

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Rules":
        """Those of the file in AGENT_RULES, where it is set. Raises SettingError."""
        file = environ.get("AGENT_RULES")
        if not file:
            return cls()
        try:
            replies = json.loads(Path(file).read_text())
            for when, _say in chain.from_iterable(replies.values()):
                re.compile(when)
        except (OSError, ValueError, AttributeError, TypeError, re.error) as error:
            raise SettingError(f"AGENT_RULES: {file} holds no rules ({error})") from error
        return cls(replies)

    def answer(self, org_id: str, context: Context) -> str:
        """The answer to the customer's newest message. What they missed since their last one stands before it."""
        asked = next((m["text"] or "" for m in reversed(context["messages"]) if m["role"] == "customer"), "")
        rules = [*self.replies.get(org_id, []), *self.replies.get("*", [])]
        found = (say for when, say in rules if re.search(when, asked, re.IGNORECASE))
        name = (context.get("customer") or {}).get("name") or ""
        said = re.sub(r" ?\{name\}", lambda _: f" {name}" if name else "", next(found, self.canned))
        if texts := missed(context["messages"]):
            said += " While you were away we wrote: " + " ".join(f"“{text}”" for text in texts)
        return said[:_MOST_TEXT]


def missed(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """The agent's own texts that did not reach the customer before they wrote again, nor were read in the portal."""
    found: list[str] = []
    written = list(messages)
    newest = max((n for n, m in enumerate(written) if m["role"] == "customer"), default=-1)
    for message in written[: max(newest, 0)]:
        if message["role"] == "customer":
            found = []
        elif message["role"] == "ai" and message["status"] == "failed" and message["portal"] != "read":
            found.append(message["unsent"] or message["text"] or "")
    return [text for text in found if text]


def why_silent(event: Event, context: Context) -> str | None:
    """Why this message gets no answer of an agent; None where it gets one."""
    if context["held"]:
        return "staff hold the conversation"
    said = context["messages"]
    mine = next((n for n, m in enumerate(said) if m["message_id"] == event["message_id"]), None)
    later = [] if mine is None else said[mine + 1 :]
    if mine is None or any(m["role"] == "customer" and m["kind"] in _READABLE for m in later):
        return "a newer message is answered instead"
    if any(m["role"] in ("ai", "staff") for m in later):
        return "it is answered already"
    if context["credit_exhausted"] and not context["window"]["open"]:
        return "the credit is exhausted and the window closed"
    return None


def is_question(event: Event) -> bool:
    """Whether the record is a message that an agent may answer at all."""
    return (
        event.get("type") == "inbound.message.v1"
        and event.get("keyword") is None
        and event.get("group_id") is None
        and event.get("content", {}).get("kind") in _READABLE
    )


def intent_id(event: Event) -> UUID:
    """The same for the same message, whenever it is read."""
    return uuid5(_ANSWERS, f"{event['org_id']}/{event['message_id']}")


def intent(event: Event, text: str, now: datetime) -> dict[str, Any]:
    """The intent that answers this message with a text, on whatever channel is alive."""
    return {
        "type": "outbound.intent.v1",
        "intent_id": str(intent_id(event)),
        "org_id": event["org_id"],
        "conversation_id": event["conversation_id"],
        "actor": {"kind": "ai", "user_id": None, "capabilities": []},
        "content": {"kind": "text", "text": text},
        "channel": "auto",
        "created_at": now.isoformat(),
        "expires_at": (now + LIFE).isoformat(),
    }


class Tokens:
    """A token for each organisation. The organisation stands in the token, which the inbox checks."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raises SettingError where there is none, or one that is no token."""
        self._environ = environ
        self.of_org: dict[str, str] = {}
        self.read()
        if not self.of_org:
            raise SettingError("set AGENT_TOKENS: a token for each organisation (transom token makes one)")

    def read(self) -> None:
        """Read them, again where they are in a file. Raises SettingError."""
        file = self._environ.get("AGENT_TOKENS_FILE")
        try:
            given = Path(file).read_text() if file else self._environ.get("AGENT_TOKENS", "")
            self.of_org = {_org_of(token): token for token in re.split(r"[\s,]+", given) if token}
        except (OSError, ValueError) as error:
            raise SettingError(f"{'AGENT_TOKENS_FILE' if file else 'AGENT_TOKENS'}: {error}") from error


def _org_of(token: str) -> str:
    """The organisation that the token names. Raises ValueError, without the token."""
    try:
        payload = token.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["org_id"])
    except (IndexError, KeyError, TypeError, ValueError):
        raise ValueError("a word in it is no token of the inbox") from None


class Agent:
    """``http`` asks the inbox at ``url``, ``producer`` publishes on the topics with ``prefix``."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        producer: AIOKafkaProducer,
        *,
        tokens: Tokens,
        prefix: str = "",
        rules: Rules | None = None,
    ) -> None:
        self._http, self._url, self._tokens = http, url.rstrip("/"), tokens
        self._producer, self._prefix, self._rules = producer, prefix, rules or Rules()
        self._refused: dict[str, str | None] = {}  # the token with which an organisation is left out

    async def takes_a_token(self) -> bool:
        """Whether the inbox takes a token, or cannot be asked. Whose it refuses is said: one may count only later."""
        good = 0
        for org_id, token in self._tokens.of_org.items():
            try:
                async with self._asked("/v1/conversations?limit=1", token) as answer:
                    good += answer.status not in _REFUSED
                    if answer.status in _REFUSED:
                        log.error("the inbox refuses the token of %s: it says %s", org_id, answer.status)
            except (aiohttp.ClientError, TimeoutError) as error:
                log.warning("the inbox cannot be reached: %s", type(error).__name__)
                return True
        return good > 0

    def _asked(self, path: str, token: str | None) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._http.get(self._url + path, headers={"Authorization": f"Bearer {token}"})

    async def answer_all(self, values: Iterable[bytes | None]) -> None:
        """Answer what is in these records. Conversations do not wait for each other; returns when Kafka has it all."""
        of_conversation: dict[str, list[Event]] = defaultdict(list)
        for value in values:
            event = _object(value)
            if is_question(event) and event.get("org_id") in self._tokens.of_org:
                of_conversation[event["conversation_id"]].append(event)
        await asyncio.gather(*map(self._answer_each, of_conversation.values()))

    async def _answer_each(self, events: Iterable[Event]) -> None:
        for event in events:
            await self.answer(event)

    async def answer(self, event: Event) -> UUID | None:
        """Answer one message. The intent's id; None where it gets no answer. The inbox is asked until it answers."""
        context = await self._context(event)
        silent = context if isinstance(context, str) else why_silent(event, context)
        if isinstance(context, str) or silent is not None:
            log.info("no answer to %s: %s", event["message_id"], silent)
            return None
        text = self._rules.canned if context["credit_exhausted"] else self._rules.answer(event["org_id"], context)
        value = json.dumps(intent(event, text, datetime.now(UTC))).encode()
        await self._producer.send_and_wait(self._prefix + INTENTS, value, key=event["conversation_id"].encode())
        log.info("answered %s", event["message_id"])
        return intent_id(event)

    async def _context(self, event: Event) -> Context | str:
        """The context, or why there is none."""
        path = f"/v1/conversations/{event['conversation_id']}/context"
        org_id, refusals = event["org_id"], 0
        while True:
            token = self._tokens.of_org.get(org_id)
            try:
                async with self._asked(path, token) as answer:
                    if answer.status not in _REFUSED:
                        self._refused.pop(org_id, None)
                    if answer.status == HTTPStatus.OK:
                        found: Context = await answer.json()
                        return found
                    if answer.status == HTTPStatus.NOT_FOUND:
                        return "its conversation is not known"
                    log.warning("the inbox says %s to %s", answer.status, org_id)
                    if answer.status in _REFUSED:
                        refusals += 1
                        self._tokens.read()
                        if self._is_left_out(org_id, token, refusals):
                            return f"the inbox refuses the token of {org_id}"
            except (aiohttp.ClientError, TimeoutError) as error:
                log.warning("the inbox cannot be reached: %s", type(error).__name__)
            await asyncio.sleep(_AGAIN_SECONDS)

    def _is_left_out(self, org_id: str, token: str | None, refusals: int) -> bool:
        """Whether the token was refused often enough, now or before, and there is no other."""
        known = org_id in self._refused and self._refused[org_id] == token
        if self._tokens.of_org.get(org_id) != token or not (known or refusals >= _REFUSALS):
            return False
        self._refused[org_id] = token
        return True


def _object(value: bytes | None) -> Event:
    try:
        found = json.loads(value or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def run(environ: Mapping[str, str]) -> None:
    """Answer until SIGTERM or SIGINT.

    Raises SettingError, and KafkaError where no broker can be reached.
    """
    bootstrap = environ.get("TRANSOM_KAFKA_BOOTSTRAP", "localhost:9092")
    prefix, url = environ.get("TRANSOM_TOPIC_PREFIX", ""), environ.get("TRANSOM_INBOX_URL")
    if not url:
        raise SettingError("set TRANSOM_INBOX_URL (the transom.env of transom up has it)")
    tokens, rules = Tokens(environ), Rules.of(environ)
    consumer = AIOKafkaConsumer(
        prefix + INBOUND,
        bootstrap_servers=bootstrap,
        group_id=prefix + "agent",
        group_instance_id=environ.get("AGENT_INSTANCE"),
        enable_auto_commit=False,
        auto_offset_reset="latest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as opened:
        http = await opened.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)))
        opened.push_async_callback(producer.stop)
        opened.push_async_callback(consumer.stop)
        agent = Agent(http, url, producer, tokens=tokens, prefix=prefix, rules=rules)
        is_heard = await agent.takes_a_token()
        await consumer.start()
        await producer.start()
        await _keep_place(consumer)
        log.info("ready" if is_heard else "ready once the inbox takes a token with the capability messages.view")
        while not stopping.is_set():
            fetched = await consumer.getmany(timeout_ms=200)
            if records := [record.value for of_partition in fetched.values() for record in of_partition]:
                await agent.answer_all(records)
                await consumer.commit()


async def _keep_place(consumer: AIOKafkaConsumer) -> None:
    """Commit where reading begins, so that a first run that is killed loses nothing either."""
    while not consumer.assignment():  # noqa: ASYNC110 -- aiokafka has no event for it
        await asyncio.sleep(0.05)
    await consumer.commit({place: await consumer.position(place) for place in consumer.assignment()})


def main() -> int:
    """0 after a signal, 2 where a setting is missing or wrong, or Kafka cannot be reached."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    try:
        asyncio.run(run(os.environ))
    except SettingError as slip:
        log.error("%s", slip)  # noqa: TRY400 -- no stack for an operator's slip
        return 2
    except KafkaError as error:
        log.error("Kafka cannot be used: %s. Is TRANSOM_KAFKA_BOOTSTRAP right?", error)  # noqa: TRY400 -- the same
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
