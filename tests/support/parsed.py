"""What ingest understands of Meta's webhooks that came at ``AT``."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from libs.common.errors import Undecodable
from libs.common.events.content import InContent
from services.ingest import meta
from services.ingest.items import CustomerMessage, Item
from services.ingest.parse import parse
from tests.support.webhooks import a_message, of_messages

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
CONTENT: TypeAdapter[Any] = TypeAdapter(InContent)


def all_of(webhook: Any, *, reaction_opens: bool = False) -> list[Item]:
    return [parse(record[1], reaction_opens=reaction_opens) for record in meta.split(webhook, AT)]


def the_message(**more: Any) -> CustomerMessage:
    message = {name: value for name, value in (a_message(AT) | more).items() if value is not None}
    (one,) = all_of(of_messages(message))
    assert isinstance(one, CustomerMessage)
    CONTENT.validate_python(one.content)
    return one


def the_reason(webhook: Any) -> str:
    return the_refusal(webhook).reason


def the_refusal(webhook: Any) -> Undecodable:
    with pytest.raises(Undecodable) as refused:
        all_of(webhook)
    return refused.value
