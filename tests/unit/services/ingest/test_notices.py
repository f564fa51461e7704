"""What Meta's notices say of who changed, in every form that was seen."""

from typing import Any

import pytest

from services.ingest.items import Sender
from services.ingest.notices import read_id_notice

OLD, NEW = "447700900111", "447700900222"
B1, B2 = "GB.13000000000000000001", "GB.ENT.13000000000000000002"
NOTHING = Sender(None, None)


def notice(sender: str | None = None, card: Any = None, kind: str = "user_changed_number", **system: Any) -> Any:
    item = {"type": "system", "system": {"type": kind, **system}} | ({"from": sender} if sender else {})
    return read_id_notice(item, card)


@pytest.mark.parametrize(
    ("told", "before", "now"),
    [
        (notice(OLD, wa_id=NEW), Sender(OLD, None), Sender(NEW, None)),
        (notice(OLD, new_wa_id=NEW, user_id=B2), Sender(OLD, None), Sender(NEW, B2)),
        (
            notice(OLD, kind="customer_changed_number", wa_id=NEW, body="Kim changed"),
            Sender(OLD, None),
            Sender(NEW, None),
        ),
        (notice(OLD, body=f"User Kim changed from {OLD} to {NEW}"), Sender(OLD, None), Sender(NEW, None)),
        (notice(NEW, wa_id=NEW, body=f"User changed number from {OLD} to {NEW}"), Sender(OLD, None), Sender(NEW, None)),
        (notice(NEW, body=f"User changed number from +{OLD} to +{NEW}."), Sender(OLD, None), Sender(NEW, None)),
        (notice(NEW, wa_id=NEW, customer=OLD, body="User changed"), Sender(OLD, None), Sender(NEW, None)),
        (notice(NEW, wa_id=NEW, body="User changed"), Sender(None, None), Sender(NEW, None)),
        (notice(None, wa_id=NEW, body=f"{OLD} is now {NEW}"), Sender(OLD, None), Sender(NEW, None)),
        (
            notice(None, kind="user_changed_user_id", previous_user_id=B1, user_id=B2),
            Sender(None, B1),
            Sender(None, B2),
        ),
        (
            notice(None, kind="user_changed_user_id", user_id=B2, body=f"Kim changed from {B1} to {B2}"),
            Sender(None, B1),
            Sender(None, B2),
        ),
        (notice(None, kind="user_changed_user_id", body=f"from {B1} to {B2}"), Sender(None, B1), Sender(None, B2)),
        (
            notice(None, {"user_id": B2}, "user_changed_user_id", user_id=B2, previous_user_id=B1),
            Sender(None, B1),
            Sender(None, B2),
        ),
        (
            notice(None, kind="user_changed_user_id", user_id=B2, body=f"Kim {OLD} changed from {B1} to {B2}"),
            Sender(None, B1),
            Sender(None, B2),
        ),
        (notice("5511990000001", wa_id="551190000001"), Sender(None, None), Sender("551190000001", None)),
    ],
)  # fmt: skip -- a table
def test_the_ids_before_and_after_come_from_fields_and_else_from_the_text(
    told: Any, before: Sender, now: Sender
) -> None:
    assert (told.before, told.now, told.alarm) == (before, now, False)


def test_a_text_that_contradicts_the_fields_is_not_believed() -> None:
    told = notice(OLD, wa_id=NEW, body="User 447700900333 changed from 447700900444 to 447700900555")
    assert (told.before, told.now) == (Sender(OLD, None), Sender(NEW, None))
    told = notice(None, wa_id=NEW, body="changed from 447700900444 to 447700900555")
    assert (told.before, told.now) == (NOTHING, Sender(NEW, None))


def test_only_a_notice_of_other_hands_is_an_alarm() -> None:
    assert notice(OLD, kind="customer_identity_changed", body="changed") == (Sender(OLD, None), NOTHING, True)
    assert notice(OLD, kind="invented_tomorrow", wa_id=NEW) == (Sender(OLD, None), NOTHING, False)


@pytest.mark.parametrize(
    "system", [None, [], "text", {"type": 5}, {"type": "user_changed_number", "body": 7, "wa_id": {}}]
)
def test_odd_notices_say_nothing(system: Any) -> None:
    assert read_id_notice({"type": "system", "system": system}, None) == (NOTHING, NOTHING, False)
