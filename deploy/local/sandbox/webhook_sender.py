"""Brings webhooks to their URLs: in chains, late, twice, several in one POST, held back, and again until 200."""

import asyncio
import random
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal
from urllib.parse import urlencode

import aiohttp

from deploy.local.sandbox.behaviour import Behaviour
from deploy.local.sandbox.clock import ours, unix_now
from deploy.local.sandbox.ledger import RecordLog
from deploy.local.sandbox.schemas import Json
from deploy.local.sandbox.signing import Secrets, meta_json, meta_signature, twilio_signature, vonage_signature
from deploy.local.sandbox.webhooks import Webhook, pack

OUTSTANDING_MOST = 50_000
"""The most chains and retries at the same time; any more are lost and counted."""
AT_ONCE = 64
PATIENCE = aiohttp.ClientTimeout(total=10)
SECONDS_OF_RETRIES = {"meta": 7 * 86400, "vonage": 86400}
TWILIO_AGAIN = 15.0
OK = 200

Order = Literal["as_held", "reversed", "shuffled"]


class WebhookSender:
    """Posts webhooks; knows the secrets that sign them, and nothing of their meaning."""

    def __init__(self, behaviour: Callable[[], Behaviour], keys: Secrets, rng: random.Random) -> None:
        self._behaviour, self._keys, self._rng = behaviour, keys, rng
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._again = asyncio.Event()
        self._waiting = 0
        self._held: list[Webhook] = []
        self._batch: list[Webhook] = []
        self.log = RecordLog(0)
        self.lost = 0

    async def open(self) -> None:
        """Open the HTTP client, inside the event loop that posts the webhooks."""
        self._session = aiohttp.ClientSession(timeout=PATIENCE, connector=aiohttp.TCPConnector(limit=AT_ONCE))

    async def close(self) -> None:
        """Stop; what is outstanding is never delivered."""
        await self.forget()
        if self._session is not None:
            await self._session.close()

    async def forget(self) -> None:
        """Drop everything outstanding and held, and post webhooks again."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._held.clear()
        self._batch.clear()
        self._flowing.set()
        self.lost = 0

    def outstanding(self) -> Json:
        """Counts: under way (chains, retries, batches), of these waiting for a retry, held, and lost."""
        return {
            "under_way": len(self._tasks),
            "waiting": self._waiting,
            "held": len(self._held),
            "lost": self.lost,
            "flowing": self._flowing.is_set(),
        }

    def chain(self, steps: Sequence[tuple[float, Webhook]]) -> None:
        """Post webhooks one after the other, each ``delay`` seconds after the one before was answered.

        The order is shuffled and webhooks are repeated here, as the behaviour says.
        """
        rules = self._behaviour()
        if not rules.webhooks:
            return
        delays, hooks = [delay for delay, _ in steps], [hook for _, hook in steps]
        if len(hooks) > 1 and self._rng.random() < rules.shuffle:
            hooks.reverse()
            if rules.shuffle < 1:
                self._rng.shuffle(hooks)
        plan: list[tuple[float, Webhook]] = []
        for delay, hook in zip(delays, hooks, strict=True):
            plan.append((delay, hook))
            if self._rng.random() < rules.repeat:
                plan.append((0.0, hook))
        self._spawn(self._walk([(delay, hook) for delay, hook in plan if hook.url]))

    def hold(self) -> None:
        """Hold every webhook and every retry back."""
        self._flowing.clear()

    def release(self, order: Order = "as_held", *, times: int = 1, together: bool = False) -> int:
        """Post webhooks again. Those that were held go first, one after the other, or Meta's together in one POST.

        Returns how many were held.
        """
        hooks, self._held = self._held, []
        count = len(hooks)
        if order == "reversed":
            hooks.reverse()
        elif order == "shuffled":
            self._rng.shuffle(hooks)
        self._flowing.set()
        batches = [[hook] for hook in hooks]
        if together:
            batches = [
                *_by_url([hook for hook in hooks if hook.provider == "meta"]),
                *([hook] for hook in hooks if hook.provider != "meta"),
            ]
        self._spawn(self._post_all([batch for batch in batches for _ in range(times)]))
        return count

    def try_again(self) -> int:
        """Retry at once everything that waits for a retry; returns how many that are."""
        again, self._again = self._again, asyncio.Event()
        again.set()
        return self._waiting

    async def fetch(self, url: str, params: dict[str, str]) -> tuple[int, str]:
        assert self._session is not None, "open() first"  # noqa: S101  a wiring mistake, not an outcome
        async with self._session.get(url, params=params) as answer:
            return answer.status, await answer.text()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= OUTSTANDING_MOST:
            self.lost += 1
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _walk(self, plan: Sequence[tuple[float, Webhook]]) -> None:
        for delay, hook in plan:
            if delay:
                await asyncio.sleep(delay)
            rules = self._behaviour()
            if not self._flowing.is_set():
                if len(self._held) < OUTSTANDING_MOST:
                    self._held.append(hook)
                else:
                    self.lost += 1
            elif hook.provider == "meta" and rules.batch and self._rng.random() < rules.batch:
                if not self._batch:
                    self._spawn(self._post_batch(rules.batch_wait))
                self._batch.append(hook)
            else:
                await self._post([hook])

    async def _post_batch(self, wait: float) -> None:
        await asyncio.sleep(wait)
        hooks, self._batch = self._batch, []
        if self._flowing.is_set():
            await self._post_all(_by_url(hooks))
        else:
            self._held.extend(hooks)

    async def _post_all(self, batches: Sequence[Sequence[Webhook]]) -> None:
        for batch in batches:
            await self._post(batch)

    async def _post(self, hooks: Sequence[Webhook]) -> None:
        """One POST and, when it fails, its retries in the background."""
        first = hooks[0]
        body: Json = pack(hooks) if first.provider == "meta" else dict(first.payload)
        record = {
            "at": unix_now(),
            "provider": first.provider,
            "url": first.url,
            "items": [{"kind": hook.kind, "subject": hook.subject, "status": hook.status} for hook in hooks],
            "body": body,
            "attempts": [],
            "delivered": False,
            "again_at": None,
        }
        self.log.add(record)
        raw, headers = self._signed(first, body)
        await self._attempt(first.url, raw, headers, record)
        if not record["delivered"]:
            self._spawn(self._retry(first, raw, headers, record))

    async def _retry(self, hook: Webhook, raw: bytes, headers: dict[str, str], record: Json) -> None:
        """Meta retries with growing pauses for seven days, Vonage for one, Twilio once, if there was no answer.

        Time is compressed. Vonage signs each try anew, with its time.
        """
        rules = self._behaviour()
        if hook.provider == "twilio":
            if record["attempts"][-1]["status"] is None:
                await asyncio.sleep(ours(TWILIO_AGAIN, rules.pace))
                await self._attempt(hook.url, raw, headers, record)
            return
        pause, spent = rules.retry_first, 0.0
        while not record["delivered"] and spent < SECONDS_OF_RETRIES[hook.provider]:
            await self._pause(pause, record)
            await self._flowing.wait()
            if hook.provider == "vonage":
                raw, headers = self._signed(hook, dict(hook.payload))
            await self._attempt(hook.url, raw, headers, record)
            spent += pause
            pause = min(pause * 2, self._behaviour().retry_most)

    async def _pause(self, seconds: float, record: Json) -> None:
        """Wait so long by the provider's time, or until ``try_again``."""
        here = ours(seconds, self._behaviour().pace)
        record["again_at"], self._waiting = unix_now() + here, self._waiting + 1
        try:
            async with asyncio.timeout(here):
                await self._again.wait()
        except TimeoutError:
            pass
        finally:
            record["again_at"], self._waiting = None, self._waiting - 1

    async def _attempt(self, url: str, raw: bytes, headers: dict[str, str], record: Json) -> None:
        assert self._session is not None, "open() first"  # noqa: S101  a wiring mistake, not an outcome
        status: int | None = None
        error: str | None = None
        try:
            async with (
                self._at_once,
                self._session.post(url, data=raw, headers=headers, allow_redirects=False) as answer,
            ):
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as trouble:
            error = type(trouble).__name__
        if len(record["attempts"]) < 100:  # noqa: PLR2004  a week of tries must not fill the ledger
            record["attempts"].append({"at": unix_now(), "status": status, "error": error})
        if record["provider"] == "meta":
            record["delivered"] = status == OK
        else:
            record["delivered"] = status is not None and status < 300  # noqa: PLR2004  2xx

    def _signed(self, hook: Webhook, body: Json) -> tuple[bytes, dict[str, str]]:
        if hook.provider == "meta":
            raw = meta_json(body)
            signed = {
                "Content-Type": "application/json",
                "X-Hub-Signature-256": meta_signature(self._keys.app_secret, raw),
            }
            return raw, signed | {"User-Agent": "facebookexternalua"}
        kind = "application/x-www-form-urlencoded; charset=UTF-8"
        if hook.provider == "vonage":
            told = body | {"timestamp": str(int(unix_now())), "nonce": secrets.token_hex(16)}
            told["sig"] = vonage_signature(self._keys.vonage_signature, told)
            return urlencode(told).encode(), {"Content-Type": kind, "User-Agent": "Nexmo/MessagingHUB/v1.0"}
        signature = twilio_signature(self._keys.twilio_token, hook.url, body.items())
        return urlencode(body).encode(), {
            "Content-Type": kind,
            "X-Twilio-Signature": signature,
            "User-Agent": "TwilioProxy/1.1",
        }


def _by_url(hooks: Sequence[Webhook]) -> list[list[Webhook]]:
    batches: dict[str, list[Webhook]] = {}
    for hook in hooks:
        batches.setdefault(hook.url, []).append(hook)
    return list(batches.values())
