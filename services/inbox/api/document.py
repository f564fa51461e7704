"""The OpenAPI 3.1 document of the API, as FastAPI makes it, with its problems and capabilities."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from services.inbox.api.security import NEEDS

CAPABILITY = "x-capability"
"""The member of an operation that names what its caller must be able to do."""
PROBLEM = "application/problem+json"
_ABOUT = """\
Conversations of an organisation over WhatsApp, SMS and the portal: read, answered, held, parked, and what they cost.

Every request has a bearer token: a JWT with `org_id`, `sub`, `capabilities` and `exp`, an hour long at most. Answers
are about the organisation of the token alone: what another one has is 404, as what nobody has. Times are RFC 3339 in
UTC. Lists are `{"items": […], "next": cursor or null}`. Errors are problems of RFC 9457 that name the fields.
"""
_PROBLEMS = {
    "401": "No token, or one that does not count.",
    "403": "The capability is missing.",
    "404": "The organisation has no such thing.",
    "422": "Fields of the request are wrong.",
    "429": "Too many requests of this person at once; Retry-After says when to ask again.",
    "502": "Meta refuses what was asked of it, for a reason that does not lie in the request.",
    "503": "A server of ours is away. Nothing was done that is not done once.",
}
_ASKS_META = frozenset({"templates"})
"""The tags of operations that ask Meta."""
_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What is wrong with a request (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
    "examples": [
        {
            "type": "about:blank",
            "title": "Unprocessable Entity",
            "status": 422,
            "errors": [{"field": "content.text", "message": "Field required"}],
        }
    ],
}


def document_of(api: FastAPI, routers: Sequence[APIRouter], prefix: str) -> dict[str, Any]:
    """The document. Every operation says its capability, and has the problems that any may answer with."""
    made: dict[str, Any] = get_openapi(
        title=api.title,
        version=api.version,
        openapi_version="3.1.0",
        description=_ABOUT,
        routes=api.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    for schema in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(schema, None)
    made["components"]["schemas"]["Problem"] = _SCHEMA
    made["components"]["responses"] = {
        f"Problem{status}": {
            "description": about,
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, about in _PROBLEMS.items()
    }
    for path, method, route in _routes(routers, prefix):
        operation = made["paths"][path][method]
        _restore_examples(made, operation, route)
        if (capability := _capability(route.dependant)) is not None:
            operation[CAPABILITY] = capability
        problems = set(_PROBLEMS) - ({"404"} if method == "get" and "{" not in path else set())
        problems -= set() if _ASKS_META & set(operation["tags"]) else {"502"}
        operation["responses"] |= {
            status: {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(problems)
        }
    return made


def _restore_examples(made: dict[str, Any], operation: dict[str, Any], route: APIRoute) -> None:
    """Put examples back as they were declared: ``get_openapi`` drops every null in them."""
    for status, response in route.responses.items():
        for media_type, content in response.get("content", {}).items():
            if "example" in content:
                operation["responses"][str(status)]["content"][media_type]["example"] = content["example"]
    declared = (route.response_model, *(field.field_info.annotation for field in route.dependant.body_params))
    for model in (one for found in declared for one in (found, *get_args(found))):
        if isinstance(model, type) and issubclass(model, BaseModel):
            extra = model.model_config.get("json_schema_extra")
            if isinstance(extra, dict) and "examples" in extra:
                made["components"]["schemas"][model.__name__]["examples"] = extra["examples"]


def _routes(routers: Sequence[APIRouter], prefix: str) -> Iterator[tuple[str, str, APIRoute]]:
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                for method in route.methods or ():
                    yield f"{prefix}{route.path_format}", method.lower(), route


def _capability(dependant: Dependant) -> str | None:
    """What a route's dependencies ask for."""
    for one in dependant.dependencies:
        found: str | None = getattr(one.call, NEEDS, None) or _capability(one)
        if found is not None:
            return found
    return None
