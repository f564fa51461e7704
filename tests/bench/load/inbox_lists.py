"""Lists of the inbox, one request after another, and how long each took.

``python -m tests.bench.load.inbox_lists '{"port": …, "host": …, "jwt": {"key": …, "aud": …, "iss": …}, "conversations":
…, "asked": …}'`` prints one JSON object of lists of milliseconds by kind of list.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import aiohttp
import jwt
import uvloop

from libs.common.clock import utc_now

_USERS = ("reads-much", "reads-little")
_WARM = 5
"""Requests of each kind before those that count."""
_FAR = 20
"""Pages behind the beginning."""
_CONVERSATION = "01930000-0000-7000-8000-{:012x}"


async def drive(given: dict[str, Any]) -> dict[str, list[float]]:
    """Ask for every kind of list so many times."""
    found: dict[str, list[float]] = {}
    url, count = f"http://127.0.0.1:{given['port']}/v1/conversations", given["conversations"]
    async with aiohttp.ClientSession() as http:
        far = await _far(http, url, given)
        for kind in ("all", "deep", "unread", "closing", "expired", "failed", "channel", "number", "search"):
            times = []
            for number, (path, query) in enumerate(_requests(kind, far, count, given["asked"] + _WARM)):
                times.append(await _ask(http, url + path, query, given, _USERS[number % 2]))
            found[kind] = times[_WARM:]
        for kind, path in (("one", "/{}"), ("thread", "/{}/messages")):
            times = []
            for number in range(given["asked"] + _WARM):
                one = _CONVERSATION.format(number * 7919 % count)
                times.append(await _ask(http, url + path.format(one), {}, given, _USERS[number % 2]))
            found[kind] = times[_WARM:]
    return found


def _requests(kind: str, far: str, count: int, times: int) -> Iterator[tuple[str, dict[str, str]]]:
    for number in range(times):
        match kind:
            case "all":
                yield "", {}
            case "deep":
                yield "", {"cursor": far}
            case "channel":
                yield "", {"channel": "sms"}
            case "number":
                yield "", {"number": f"10640000000000{number % 3}"}
            case "search":
                wanted = number * 7919 % count
                yield "", {"q": (f"word{number * 31 % 5000}", f"kim {wanted}", f"{wanted:08}", "ready")[number % 4]}
            case _:
                yield "", {"view": kind}


async def _far(http: aiohttp.ClientSession, url: str, given: dict[str, Any]) -> str:
    """The cursor of a page far behind the first."""
    cursor = ""
    for _ in range(_FAR):
        query = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
        async with http.get(url, params=query, headers=_headers(given, _USERS[0])) as answer:
            answer.raise_for_status()
            cursor = (await answer.json())["next"] or cursor
    return cursor


async def _ask(http: aiohttp.ClientSession, url: str, query: dict[str, str], given: dict[str, Any], user: str) -> float:
    headers = _headers(given, user)
    began = perf_counter()
    async with http.get(url, params=query, headers=headers) as answer:
        answer.raise_for_status()
        await answer.read()
    return (perf_counter() - began) * 1000


def _headers(given: dict[str, Any], user: str) -> dict[str, str]:
    claims = {
        "org_id": "large",
        "sub": user,
        "capabilities": ["messages.view", "customers.contact.view"],
        "exp": int(utc_now().timestamp()) + 900,
        "aud": given["jwt"].get("aud"),
        "iss": given["jwt"].get("iss"),
    }
    token = jwt.encode({name: said for name, said in claims.items() if said}, given["jwt"]["key"], "HS256")
    return {"Authorization": f"Bearer {token}", "Host": given["host"]}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(drive(json.loads(sys.argv[1])))))  # noqa: T201 -- its answer
