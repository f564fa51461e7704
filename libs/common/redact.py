"""Masks private data in log lines.

Rule 1: a field with a private name is masked whatever its value.
Rule 2: in every other string, phone numbers, tokens, signatures, and links with their queries are masked.
Rule 3: a log line is printable: no control characters, no bidirectional formats.
Rule 4: of an exception the class and the place are logged. Its message is logged only where it cannot quote a payload.
"""

import functools
import re
import traceback
from collections.abc import Mapping, MutableMapping
from dataclasses import is_dataclass
from datetime import datetime
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import asyncpg

from libs.common.errors import TransomError
from libs.common.printable import printable

MASK = "[redacted]"

# Private names, and parts that make any name private.
_PRIVATE_NAMES = frozenset(
    (
        *("text", "body", "caption", "content", "contents", "value", "payload", "key", "parameters", "params", "args"),
        *("to", "from", "sender", "recipient", "name", "first_name", "last_name", "email", "address", "wa_id", "wamid"),
        *("latitude", "longitude", "url", "uri", "link", "href", "query", "query_string", "headers", "cookie"),
        *("dsn", "code"),
    )
)
_PRIVATE_PARTS = re.compile(
    r"phone(?!_number_id)|token|secret|password|passwd|signature|authori[sz]ation|credential|msisdn|_url$|_text$|_body$"
)

# Fields of every line. A value of the expected form is not searched, so that the common line costs little.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_is_uuid, _UUID_LENGTH = _UUID.fullmatch, 36
_QUIET = frozenset(
    (
        *("event", "reason", "route", "channel", "outcome", "topic", "org_id", "phone_number_id", "status", "logger"),
        *("line", "kind", "source", "provider", "dependency", "waba_id"),
    )
)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.:<>-]{0,80}|\d{1,6}")
_OF_META, _ID_NUMBER = frozenset(("phone_number_id", "waba_id")), re.compile(r"\d{1,20}")
_SHORT = 80
_HARMLESS = (UUID, float, datetime)

_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_PRIVATE = re.compile(
    rf"""
    (?P<link> (?<![\w/.@-])(?:[0-9A-Za-z-]{{1,63}}\.){{1,8}}[0-9A-Za-z-]{{1,63}}(?::\d+)?/ ) # host/code, no scheme
      [0-9A-Za-z]{{6,}}(?![0-9A-Za-z_])[^\s'"<>)]*
    | (?P<keep> \b[0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}\b    # an id of ours
            | \b\d{{4}}-\d\d-\d\d(?:[T ]\d\d:\d\d[\d:.,+Z-]*)?(?![\d-])                      # a date, a time
            | \b{_OCTET}(?:\.{_OCTET}){{3}}(?:/\d+)?(?::\d+)?\b(?![.\d])                     # a server's address
    )
    | (?P<host> \b[a-z][a-z0-9+.-]*:// (?:[^\s/?\#@'"]*@)? (?P<where>[^\s/?\#@'"]*) ) [^\s'"<>)]* # a URL: keep its host
    | \bwa\.me/\S+
    | \bwa(?:m|c)id\.[\w=+/.-]+ # holds a phone number in base64
    | (?<![\w+/=])HBg[H-P][\w+/=-]{{12,}} # the same without its name, of 7 to 15 digits
    | (?<![\w.+-])[\w.+%-]{{1,64}}@[\w-]{{1,63}}(?:\.[\w-]{{1,63}})+ # an e-mail address
    | \b[A-Z]{{2}}\.(?:ENT\.)?[0-9A-Za-z]{{10,}}\b                                             # a BSUID
    | (?i:\b(?:bearer|basic)\s+[\w.~+/=-]+)
    | \beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?                                                       # a JWT
    | \bEAA[A-Za-z0-9]{{16,}}                                                                # a token of Meta's
    | \bsha(?:1|256)=[0-9A-Fa-f]+
    | (?<![0-9A-Za-z])[0-9a-f]{{32,}}(?![0-9A-Za-z]) # keys, tokens and digests in hex
    | (?i:(?<![0-9a-z])[\w.-]{{0,40}}(?:token|secret|password|passwd|passphrase|signature|api[_-]?key)s?
        ['"]?\s*[=:]\s*\S+)
    | (?i:\bcode\b['"]?\s*[=:]\s*\S+)
    | (?i:\b(?:password|passwd|passphrase)\s+(?:is\s+)?\S+)
    | (?<![0-9A-Za-z_.-])(?:\+|00)?\(?\d(?:[ ()./-]{{0,2}}\d){{6,18}}(?![0-9A-Za-z_-]) # 7 to 19 digits
    """,
    re.VERBOSE,
)

_DEPTH = 6
_LONGEST = 2000
_FRAMES = 12

# Their messages are about code, files, sockets and our own static texts, never about a customer's data.
_SPEAKING = (TransomError, OSError, TypeError, AttributeError, NameError, ImportError, IndexError)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask private data in one event (a structlog processor). ``event`` and well-formed ids are unchanged."""
    for name, value in event.items():
        kind = type(value)
        if kind is str:
            if name in _QUIET and len(value) <= _SHORT:
                if _is_harmless(name, value):
                    continue
            elif len(value) == _UUID_LENGTH and name.endswith("_id") and _is_uuid(value):
                continue
            event[name] = _clean(name, value, _DEPTH)
        elif kind is int or value is None or kind is bool or isinstance(value, _HARMLESS):
            if _is_private(name):
                event[name] = MASK
        elif name == "exception":
            continue  # made by ``describe``
        else:
            event[name] = _clean(name, value, _DEPTH)
    return event


def scrub(text: str) -> str:
    """The text, printable and of bounded length, with everything masked that looks private."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"  # a secret cut in two is masked all the same
    # invisible characters would hide a number from the patterns, so they are removed first
    return _PRIVATE.sub(_masked, printable(text))


def provider_id(raw: str) -> str:
    """A provider's id as it may be logged.

    A wamid holds the customer's number, so it is logged as a short digest.
    """
    if scrub(raw) == raw:
        return raw
    kind, dot, _ = raw.partition(".")
    return f"{kind[:8] if dot and kind.isalpha() else ''}…{sha256(raw.encode(errors='replace')).hexdigest()[:8]}"


def describe(error: BaseException) -> list[dict[str, Any]]:
    """An exception and its causes, the latest first.

    Each has ``type``, ``at`` (file:line function, innermost last), perhaps ``message``.
    """
    described: list[dict[str, Any]] = []
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting and len(described) < _DEPTH:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        frames = traceback.extract_tb(current.__traceback__)[-_FRAMES:]
        one: dict[str, Any] = {
            "type": f"{type(current).__module__}.{type(current).__qualname__}".removeprefix("builtins."),
            "at": [f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}" for frame in frames],
        }
        if message := _message_of(current):
            one["message"] = message
        described.append(one)
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(cast(BaseExceptionGroup[BaseException], current).exceptions)
        if current.__cause__ is not None:
            waiting.append(current.__cause__)
        elif current.__context__ is not None and not current.__suppress_context__:
            waiting.append(current.__context__)
    return described


def _message_of(error: BaseException) -> str:
    match error:
        case asyncpg.PostgresError():
            # the message may quote a value; state and names cannot
            parts = (error.sqlstate, error.table_name, error.column_name, error.constraint_name)
            return " ".join(part for part in parts if isinstance(part, str))
        case asyncpg.InterfaceError() if not isinstance(error, ValueError):
            return scrub(str(error))
        case _ if isinstance(error, _SPEAKING):
            return scrub(str(error))
        case _:
            return ""


@functools.lru_cache(1024)  # field names are static, so they are few
def _is_private(name: str) -> bool:
    lowered = name.lower()
    return lowered in _PRIVATE_NAMES or _PRIVATE_PARTS.search(lowered) is not None


@functools.lru_cache(4096)  # reasons, routes, organisations: short, and often the same
def _is_harmless(name: str, value: str) -> bool:
    if not name.endswith("_id"):
        return _WORD.fullmatch(value) is not None and _PRIVATE.search(value) is None  # a provider may choose a kind
    return (
        _WORD.fullmatch(value) is not None
        or _is_uuid(value) is not None
        or (name in _OF_META and _ID_NUMBER.fullmatch(value) is not None)
    )


def _clean(name: str, value: Any, depth: int) -> Any:
    if _is_private(name):
        return MASK
    return _cleaned(value, depth) if depth else f"<{type(value).__name__}>"


def _cleaned(value: Any, depth: int) -> Any:
    if isinstance(value, Enum):
        value = value.value
    match value:
        case str():
            return scrub(value)
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case Mapping():
            return {scrub(str(key)): _clean(str(key), item, depth - 1) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean("", item, depth - 1) for item in value]
        case BaseException():
            return describe(value)
        case _:  # the renderer would write a dataclass's fields
            return f"<{type(value).__name__}>" if is_dataclass(value) else value


def _masked(match: re.Match[str]) -> str:
    if match["keep"] is not None:
        return match["keep"]
    if match["link"] is not None:
        return f"{match['link']}{MASK}"
    if match["host"] is not None:
        scheme = match["host"].partition("://")[0]
        return (
            f"{scheme}://{match['where']}"
            if match[0] == f"{scheme}://{match['where']}"
            else f"{scheme}://{match['where']}/{MASK}"
        )
    return MASK
