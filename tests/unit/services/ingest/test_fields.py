from typing import Any

import pytest

from services.ingest.fields import own_number

KIM = {"phone": "+447700900777", "wa_id": "447700900777"}


def shared(*phones: Any, **more: Any) -> dict[str, Any]:
    """One card, given on request."""
    return {"type": "contacts", "origin": "contact_request", "contacts": [{"phones": list(phones)}]} | more


@pytest.mark.parametrize(
    ("message", "number"),
    [
        (shared(KIM), "+447700900777"),
        (shared({"phone": "447700900777"}), "+447700900777"),
        (shared({"phone": "+44 7700 900777"}), "+447700900777"),
        (shared({"phone": "+5511990000001", "wa_id": "551190000001"}), "+551190000001"),
        (shared({"phone": "+5511990000001"}, {"phone": "+551190000001"}), "+5511990000001"),
        (shared(KIM, {"phone": "+442079460123"}), "+447700900777"),
        (shared(KIM, origin=None, contacts=[{"phones": [KIM], "origin": "contact_request"}]), None),
        ({"type": "contacts", "contacts": [{"phones": [KIM], "origin": "contact_request"}]}, "+447700900777"),
        ({"type": "contacts", "contacts": [{"phones": [KIM]}]}, None),
        (shared(KIM, origin="other"), None),
        (shared(KIM, origin="contact_request/other"), None),
        (shared(KIM, contacts=[{"phones": [KIM]}, {"phones": [KIM]}]), None),
        (shared(KIM, {"phone": "+447700900778", "wa_id": "447700900778"}), None),
        (shared({"phone": "+447700900777"}, {"phone": "+447700900778"}), None),
        (shared({"phone": "07700 900777"}), None),
        (shared({"wa_id": "GB.1"}, {"phone": 5}, "x"), None),
        (shared(), None),
        (shared(KIM, type="text"), None),
        ({"type": "contacts", "contacts": "x", "origin": "contact_request"}, None),
        ({}, None),
    ],
)
def test_the_own_number_is_what_was_shared_on_request_and_names_one_line(message: Any, number: str | None) -> None:
    assert own_number(message) == number
