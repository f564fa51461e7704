"""What FastAPI calls for a request of the API."""

from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

from fastapi.routing import APIRoute

from services.inbox.api.app import ROUTERS


def called(dependant: Any) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from called(inner)


def test_nothing_of_a_request_is_handed_to_a_thread() -> None:
    """FastAPI runs plain functions in a thread: two switches for each of them and each request."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    calls = {call for route in routes for call in (route.endpoint, *called(route.dependant))}
    assert len(calls) > len(routes)
    plain = [call for call in calls if not iscoroutinefunction(call) and not iscoroutinefunction(type(call).__call__)]
    assert plain == []
