"""What Meta's answers about templates mean. Pure.

Rule 1: an answer is read here and nowhere else. Anything that has not the shape of success or of Meta's error is
        ``Unknown``: what was asked may have been done.
Rule 2: a listed template that cannot be read is left out, but Meta has it: its name and language are told. The rest of
        its page counts.

Sources: Meta, "Template management"; Graph API, "Handle errors", "Rate limiting". 4, 80008 and 80012 are the limits of
the app, of the account and of a template.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from libs.common.sanitize import sanitize

_THROTTLED = frozenset({4, 17, 32, 613, 80007, 80008, 80012, 130429})
_ACCOUNT = frozenset({0, 3, 10, 33, 102, 104, 190, 368, 131031, *range(200, 300)})
_NO_OBJECT = 33
_EXISTS = frozenset({2388024})
_NOT_FOUND = frozenset({2593002})
_OK, _TOO_MANY, _SERVER = range(200, 300), 429, 500
_MAX_SENTENCE = 500
_ID = re.compile(r"[0-9]{1,32}")
_CATEGORIES = frozenset({"UTILITY", "MARKETING", "AUTHENTICATION"})


class Listed(NamedTuple):
    """A template as Meta lists it. Words are in upper case; ``rejected_reason`` is None where Meta says NONE."""

    name: str
    language: str
    category: str
    status: str
    parameter_format: str
    components: list[Any]
    quality: str | None
    rejected_reason: str | None
    meta_id: str


class Unread(NamedTuple):
    """A template that Meta lists and that cannot be read; None for what cannot be read of its name either."""

    name: str | None
    language: str | None


class Page(NamedTuple):
    """A page of the list. ``after`` is the cursor of the next one, None at the end."""

    templates: tuple[Listed, ...]
    unread: tuple[Unread, ...]
    after: str | None


class Made(NamedTuple):
    """Meta took a new template. Its category may be another one than the one that was asked for."""

    meta_id: str
    status: str
    category: str | None


class Done(NamedTuple):
    """Meta did what was asked."""


class Refused(NamedTuple):
    """Meta did not do it and will not. ``sentence`` is Meta's own for people. ``exists``: the name is taken already.

    ``missing``: there is no such template.
    """

    code: str
    sentence: str
    exists: bool = False
    missing: bool = False


class Broken(NamedTuple):
    """The account or its token is not in order: whatever is asked gets the same answer until people mend it."""

    code: str


class Throttled(NamedTuple):
    """Too many calls, or Meta is not well. Nothing was done; the same may be asked later."""

    code: str


class Unknown(NamedTuple):
    """There is no answer, or none that can be read. What was asked may have been done."""

    why: Literal["timeout", "connection_lost", "unreadable", "server_error"]


Failure = Refused | Broken | Throttled | Unknown


def page_of(status: int, body: Any) -> Page | Failure:
    """The answer to a list."""
    match body:
        case {"data": list(rows)} if status in _OK:
            read = [_listed(row) for row in rows]
            return Page(
                templates=tuple(one for one in read if isinstance(one, Listed)),
                unread=tuple(one for one in read if isinstance(one, Unread)),
                after=_after(body),
            )
        case _:
            return failure_of(status, body)


def made_of(status: int, body: Any) -> Made | Failure:
    """The answer to a new template."""
    match body:
        case {"id": str(meta_id) | int(meta_id), "status": str(word)} if status in _OK and _ID.fullmatch(str(meta_id)):
            category = body.get("category")
            known = category if isinstance(category, str) and category in _CATEGORIES else None
            return Made(str(meta_id), word.upper(), known)
        case _:
            return failure_of(status, body)


def done_of(status: int, body: object) -> Done | Failure:
    """The answer to an edit or a deletion."""
    match body:
        case {"success": True} if status in _OK:
            return Done()
        case _:
            return failure_of(status, body)


def failure_of(status: int, body: object) -> Failure:
    """An answer that is no success."""
    match body:
        case {"error": {"code": int(code)} as error}:
            subcode = error.get("error_subcode")
            if code in _THROTTLED or status == _TOO_MANY:
                return Throttled(str(code))
            if code in _ACCOUNT or (code == 100 and subcode == _NO_OBJECT):  # noqa: PLR2004 -- Meta's code
                return Broken(str(subcode) if subcode == _NO_OBJECT else str(code))
            if status >= _SERVER or code in (1, 2) or error.get("is_transient") is True:
                return Unknown("server_error")
            shown = f"{code}" if subcode is None else f"{code}/{subcode}"
            return Refused(shown, _sentence(error), exists=subcode in _EXISTS, missing=subcode in _NOT_FOUND)
        case _:
            return Unknown("server_error" if status >= _SERVER else "unreadable")


def _sentence(error: Mapping[str, Any]) -> str:
    """Meta's words for people, else its words for developers."""
    details = error.get("error_data")
    found = [error.get("error_user_title"), error.get("error_user_msg")]
    if not any(found):
        found = [error.get("message"), details.get("details") if isinstance(details, Mapping) else None]
    texts = [text.strip().rstrip(".") for text in found if isinstance(text, str) and text.strip()]
    sentence: str = sanitize(". ".join(texts)[:_MAX_SENTENCE])
    return f"{sentence}."


def _after(body: Mapping[str, Any]) -> str | None:
    """The cursor of the next page. Meta gives the last page cursors too, and only ``next`` says that there is more."""
    match body.get("paging"):
        case {"next": str(), "cursors": {"after": str(after)}} if after:
            return after
        case _:
            return None


def _listed(row: Any) -> Listed | Unread:
    """Without its components a template cannot be read: an empty text would take the place of the known one."""
    match row:
        case {
            "name": str(name),
            "language": str(language),
            "status": str(status),
            "category": str(category),
            "id": str(meta_id) | int(meta_id),
            "components": list(components),
        } if category.upper() in _CATEGORIES and _ID.fullmatch(str(meta_id)):
            quality = row.get("quality_score")
            score = quality.get("score") if isinstance(quality, Mapping) else quality
            found = Listed(
                name=name,
                language=language,
                category=category.upper(),
                status=status.upper(),
                parameter_format="NAMED" if _word(row.get("parameter_format")) == "NAMED" else "POSITIONAL",
                components=components,
                quality=_word(score),
                rejected_reason=_word(row.get("rejected_reason")),
                meta_id=str(meta_id),
            )
            return Listed(*sanitize(tuple(found)))
        case {"name": str(name), "language": str(language)}:
            return Unread(*sanitize((name, language)))
        case _:
            return Unread(None, None)


def _word(value: object) -> str | None:
    """A word in upper case; Meta writes NONE for none."""
    word = value.strip().upper() if isinstance(value, str) else ""
    return word if word not in ("", "NONE") else None
