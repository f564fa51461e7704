"""The API as a FastAPI application: its routes, and its errors as problems.

Rule 1: every error is a problem (RFC 9457). A field that is wrong is named, and its value is not repeated.
Rule 2: an id in the path that is no id is unknown: 404, as any id that the organisation does not have.
Rule 3: while a server of ours is away the answer is 503, and nothing was done that would not be done once.
Rule 4: the token is looked at before the body, also before one that is no JSON.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import asyncpg
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from libs.common.errors import Transient
from libs.common.events.content import OUT_KINDS
from libs.common.retryable import is_retryable
from services.inbox.api import context, conversations, events, notices, parked, sending, spend, templates
from services.inbox.api.document import document_of
from services.inbox.api.security import person_of
from services.inbox.deps import Deps
from services.inbox.guard import API, DOCUMENT
from services.inbox.problems import FieldFault, Problem, away, invalid, not_found, report_away

ROUTERS: Sequence[APIRouter] = (
    conversations.router,
    context.router,
    events.router,
    notices.router,
    parked.router,
    sending.router,
    spend.router,
    templates.router,
)
"""The routes of ``/v1``, one router for each module beside this one."""

_MAYBE_AWAY = (Transient, TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""Errors that ``is_retryable`` may know."""


def build_api(deps: Deps) -> FastAPI:
    """The application on these deps."""
    api = declared_api()
    api.state.deps = deps
    return api


def declared_api() -> FastAPI:
    """The application without what it works with. The document is made of it."""
    api = FastAPI(
        title="Transom inbox",
        version=version("transom"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    for router in ROUTERS:
        api.include_router(router, prefix=API)
    api.add_api_route(DOCUMENT, _document, include_in_schema=False)
    api.add_exception_handler(Problem, _problem)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _http_error)
    for kind in _MAYBE_AWAY:
        api.add_exception_handler(kind, _away)
    api.add_exception_handler(Exception, _broken)
    return api


@cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    return document_of(declared_api(), ROUTERS, API)


async def _document() -> dict[str, Any]:
    return document()


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 -- narrows the type
    return error.response()


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- narrows the type
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return await _unreadable(request)
    if any(fault["loc"][0] == "path" for fault in faults):
        return not_found().response()
    return invalid(*(FieldFault(_field(fault["loc"]), _message(fault)) for fault in faults)).response()


def _message(fault: Mapping[str, Any]) -> str:
    """What is wrong. Of a tag pydantic says which one it found; a body that is not called JSON is given as bytes."""
    if isinstance(fault.get("input"), bytes):
        return "JSON is needed, with the header Content-Type: application/json"
    if fault["type"] == "union_tag_invalid":
        return f"{fault['ctx']['discriminator']} should be one of {fault['ctx']['expected_tags']}".replace("'", "")
    return str(fault["msg"])


def _field(location: Sequence[int | str]) -> str:
    """``("body", "content", "text", "text")`` as ``content.text``, and the body itself as ``body``.

    The branches of a union are no fields: a kind of content, or ``list[str]``.
    """
    steps = [str(step) for last, step in pairwise(location) if not (last == "content" and step in OUT_KINDS)]
    return ".".join(step for step in steps if "[" not in step) or str(location[0])


async def _unreadable(request: Request) -> Response:
    """The answer to a body that is no JSON. The framework reads it before it asks who sends it."""
    try:
        await person_of(request)
    except Problem as problem:
        return problem.response()
    except _MAYBE_AWAY as trouble:
        return await _away(request, trouble)
    return invalid(FieldFault("body", "it cannot be read as JSON")).response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- narrows the type
    if error.status_code == HTTPStatus.BAD_REQUEST:  # the framework says it of a body alone
        return await _unreadable(request)
    return Problem(HTTPStatus(error.status_code), headers=error.headers).response()


async def _away(_request: Request, error: Exception) -> Response:
    if not is_retryable(error):
        raise error
    report_away(error)
    return away("a server of ours").response()


async def _broken(_request: Request, _error: Exception) -> Response:
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR).response()  # the server logs the exception itself
