"""Schemathesis asks the running API what its document allows and what it does not: every answer fits the document."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance, unsupported_method

from services.inbox.api.app import document
from tests.support.inbox import RunningInbox, a_token
from tests.support.inbox_thread import a_thread, publishing

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")  # it does so itself

SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = {
    f"{operation.method} {operation.path}": operation
    for found in SCHEMA.get_all_operations()
    if isinstance(found, Ok)
    and (operation := found.ok()) is not None
    and "text/event-stream" not in str(operation.definition.raw["responses"])  # a stream does not end
}
EXAMPLES = 5
MANY = 50
# What a document cannot say is not held against an answer: that an id is unknown, that a window is open.
_NOT_HELD = [positive_data_acceptance, unsupported_method, ignored_auth, not_a_server_error]


@dataclass
class Tried:
    """Whom the API is asked by, and ids that exist."""

    inbox: RunningInbox
    org_id: str
    ids: dict[str, str]


@pytest_asyncio.fixture(scope="module")
async def tried(inbox: RunningInbox) -> AsyncIterator[Tried]:
    async with publishing(inbox) as producer:
        thread = await a_thread(inbox, producer)
        await thread.customer_writes()
    yield Tried(inbox, thread.org_id, {"conversation_id": str(thread.conversation_id)})


@pytest.mark.parametrize("count", [EXAMPLES, pytest.param(MANY, marks=pytest.mark.proof)])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_answer_fits_the_document(tried: Tried, name: str, count: int) -> None:
    token = a_token(tried.org_id, f"schemathesis-{uuid4().hex[:6]}")
    numbers = iter(range(10_000))

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[name].as_strategy())
    def each(case: Any) -> None:
        if next(numbers) % 2:  # as often an id that exists
            case.path_parameters = {**(case.path_parameters or {}), **_known(case.path_parameters, tried.ids)}
        answer = case.call_and_validate(
            base_url=tried.inbox.url,
            headers={"Authorization": f"Bearer {token}"},
            excluded_checks=_NOT_HELD,
            timeout=20,
        )
        assert answer.status_code < 500 or answer.status_code == 502  # nobody is Meta here

    await asyncio.to_thread(each)


def _known(parameters: Any, ids: dict[str, str]) -> dict[str, str]:
    return {name: ids[name] for name in parameters or {} if name in ids}
