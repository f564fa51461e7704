"""What staff write in the WhatsApp Business app: it stands in the thread once, is told, and holds the AI."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from libs.common.events.inbound import MetaWebhook
from libs.common.events.topics import DELIVERY_UPDATES, DIRECTORY_CHANGES, INBOUND_MESSAGES, OUTBOUND_REFUSED, WEBHOOKS
from tests.support.command import environment, transom
from tests.support.ingest import DAY, ORG, Ingest, now
from tests.support.logs import LogLines
from tests.support.messages_out import a_conversation, sent
from tests.support.webhooks import (
    BSUID,
    NUMBER,
    OUR_NUMBER,
    WA_ID,
    WABA,
    a_contact,
    a_message,
    a_status,
    a_value,
    a_webhook,
    an_echo,
    of_echoes,
    of_messages,
)

_OUT = """
select message_id, conversation_id, kind, content, reply_to, actor, user_id, status, seq, attempt, occurred_at, sent_at
  from messages where direction = 'out' order by sequence
"""


def of_statuses(*statuses: dict[str, Any]) -> dict[str, Any]:
    return a_webhook(a_value(statuses=list(statuses)))


async def settled(ingest: Ingest) -> None:
    """Everything that was posted before of this customer is stored, and what was to be published is."""
    before = len(await ingest.published.events(INBOUND_MESSAGES))
    await ingest.post(of_messages(a_message(now(), **{"from": WA_ID}), contacts=[a_contact()]))
    await ingest.published.events(INBOUND_MESSAGES, before + 1)


async def holds_of(ingest: Ingest) -> list[dict[str, Any]]:
    return [dict(row) for row in await ingest.rows("select * from conversation_holds")]


async def test_an_echo_stands_in_the_thread_and_is_told_and_holds_the_ai(ingest: Ingest, log_lines: LogLines) -> None:
    conversation_id, at = await a_conversation(ingest), now()
    await ingest.post(of_echoes(an_echo(at, "Your car is ready.")))
    (update,) = await ingest.published.events(DELIVERY_UPDATES, 1)
    (row,) = await ingest.rows(_OUT)
    assert (row["conversation_id"], row["actor"], row["user_id"]) == (conversation_id, "staff", None)
    assert row["content"] == {"kind": "text", "text": "Your car is ready."}
    assert (row["status"], row["seq"], row["occurred_at"], row["sent_at"]) == ("sent", 1, at, at)
    assert (update["message_id"], update["status"], update["seq"]) == (str(row["message_id"]), "sent", 1)
    assert (update["conversation_id"], update["author"]) == (str(conversation_id), "phone_app")
    (held,) = await ingest.published.events(DIRECTORY_CHANGES, 1)
    assert (held["type"], held["conversation_id"]) == ("conversation.held.v1", str(conversation_id))
    assert held["user_id"] == "phone_app"
    assert datetime.fromisoformat(held["at"]) == at
    assert datetime.fromisoformat(held["until"]) == at + timedelta(hours=1)
    await settled(ingest)
    (hold,) = await holds_of(ingest)
    assert (hold["user_id"], hold["at"], hold["published"]) == (None, at, True)
    assert [line["outcome"] for line in log_lines.of("message.echoed")] == ["stored"]
    assert "Your car" not in str(log_lines.of("message.echoed"))
    assert await ingest.published.events(WEBHOOKS.dlq) == []


async def test_an_echo_is_explained_as_what_staff_wrote(ingest: Ingest, database: str) -> None:
    await a_conversation(ingest)
    echo = an_echo(now(), "Your car is ready.")
    await ingest.post(of_echoes(echo))
    (update,) = await ingest.published.events(DELIVERY_UPDATES, 1)
    await ingest.post(of_statuses(a_status(echo["id"], "delivered", now()), a_status(echo["id"], "read", now())))
    await ingest.published.events(DELIVERY_UPDATES, 3)
    env = environment(POSTGRES_DSN=database)
    ended = await asyncio.to_thread(transom, "explain", update["message_id"], env=env)
    assert (ended.returncode, ended.stderr) == (0, "")
    first, second, *lines = ended.stdout.splitlines()
    assert first == f"message {update['message_id']} of org {ORG}"
    assert second == "staff wrote it in the WhatsApp Business app: it has no intent, and nothing was decided"
    assert {"echo stored", "message sent", "message delivered", "message read"} <= {
        line.split("  ")[1] for line in lines
    }
    assert not any(word in "".join(lines) for word in ("attempt", "provider answered", "intent"))


async def test_an_echo_opens_no_window_and_extends_none(ingest: Ingest) -> None:
    await ingest.post(of_messages(a_message(now() - 2 * DAY)))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    query = "select last_customer_at, last_inbound_at, last_inbound_channel from conversations"
    before = await ingest.row(query)
    await ingest.post(of_echoes(an_echo(now())))
    await ingest.published.events(DELIVERY_UPDATES, 1)
    assert await ingest.row(query) == before


async def test_a_conversation_that_staff_begin_on_the_phone_has_no_window(ingest: Ingest) -> None:
    await ingest.post(of_echoes(an_echo(now(), to=None, to_user_id=BSUID), contacts=[a_contact(None, BSUID)]))
    (update,) = await ingest.published.events(DELIVERY_UPDATES, 1)
    found = await ingest.row(
        "select c.conversation_id, c.bsuid, c.wa_id, c.last_customer_at, k.name from conversations c"
        " join customers k using (org_id, customer_id)"
    )
    assert (str(found["conversation_id"]), found["bsuid"]) == (update["conversation_id"], BSUID)
    assert (found["wa_id"], found["last_customer_at"], found["name"]) == (None, None, "Kim")
    await ingest.post(of_messages(a_message(now(), **{"from": None, "from_user_id": BSUID}), contacts=[]))
    (wrote,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert wrote["conversation_id"] == update["conversation_id"]


async def test_an_echo_that_comes_again_is_told_again_and_changes_nothing(ingest: Ingest, log_lines: LogLines) -> None:
    await a_conversation(ingest)
    echo = an_echo(now())
    await ingest.post(of_echoes(echo, echo))
    await ingest.published.events(DELIVERY_UPDATES, 1)
    await ingest.rows("update conversation_holds set until_at = null, at = at + interval '1 second'")  # released
    await ingest.post(of_echoes(echo))
    await settled(ingest)
    updates = await ingest.published.events(DELIVERY_UPDATES, 2)
    assert {(one["message_id"], one["seq"]) for one in updates} == {(updates[0]["message_id"], 1)}
    assert len(await ingest.rows(_OUT)) == 1
    assert [hold["until_at"] for hold in await holds_of(ingest)] == [None]
    assert "known" in {line["outcome"] for line in log_lines.of("message.echoed")}
    assert len(await ingest.rows("select from audit_log where action = 'hold'")) == 1


async def test_what_a_sender_of_ours_sent_is_no_echo(ingest: Ingest) -> None:
    message_id = await sent(ingest.pool, await a_conversation(ingest), "wamid.ours")
    await ingest.post(of_echoes(an_echo(now(), id="wamid.ours")))
    await settled(ingest)
    assert [row["message_id"] for row in await ingest.rows(_OUT)] == [message_id]
    assert await holds_of(ingest) == []
    assert await ingest.published.events(DELIVERY_UPDATES) == []


async def test_statuses_follow_an_echo_and_have_no_other_effect(ingest: Ingest) -> None:
    await a_conversation(ingest)
    first, second, at = an_echo(now()), an_echo(now()), now()
    priced = {"pricing": {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "service"}}
    await ingest.post(of_echoes(first, second))
    await ingest.post(
        of_statuses(
            a_status(first["id"], "delivered", at, **priced),
            a_status(first["id"], "read", at),
            a_status(second["id"], "failed", at, errors=[{"code": 131047}]),
        )
    )
    await settled(ingest)
    updates = await ingest.published.events(DELIVERY_UPDATES, 5)
    assert {one["author"] for one in updates} == {"phone_app"}
    rows = await ingest.rows("select status, provider_code from messages where direction = 'out' order by sequence")
    assert [tuple(row) for row in rows] == [("read", None), ("failed", "131047")]
    assert await ingest.published.events(OUTBOUND_REFUSED) == []
    assert (await ingest.row("select last_refused_at from conversations"))["last_refused_at"] is None
    assert await ingest.rows("select from message_pricing") == []
    assert await ingest.rows("select from charges") == []


@pytest.mark.parametrize("age", [timedelta(hours=2), 7 * DAY, 30 * DAY])
async def test_an_old_echo_holds_nothing_now(ingest: Ingest, age: timedelta) -> None:
    await a_conversation(ingest)
    await ingest.post(of_echoes(an_echo(now() - age)))
    await settled(ingest)
    assert len(await ingest.rows(_OUT)) == 1
    assert await holds_of(ingest) == []
    assert await ingest.published.events(DIRECTORY_CHANGES) == []


async def test_a_newer_word_of_staff_stands_against_an_echo(ingest: Ingest) -> None:
    conversation_id, at = await a_conversation(ingest), now()
    released = at - timedelta(minutes=1)
    await ingest.rows(
        "insert into conversation_holds (conversation_id, org_id, user_id, at) values ($1, $2, 'ann', $3)",
        *(conversation_id, ORG, released),
    )
    await ingest.post(of_echoes(an_echo(released - timedelta(minutes=1))))
    await settled(ingest)
    assert [hold["until_at"] for hold in await holds_of(ingest)] == [None]
    await ingest.post(of_echoes(an_echo(at)))
    await settled(ingest)
    assert [hold["until_at"] for hold in await holds_of(ingest)] == [at + timedelta(hours=1)]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"type": "reaction", "reaction": {"message_id": "wamid.x", "emoji": "👍"}}, "reaction"),
        ({"type": "revoke", "revoke": {"original_message_id": "wamid.x"}}, "unsupported"),
        (
            {
                "type": "edit",
                "from": WA_ID,  # both sides are exchanged, as they were seen
                "to": OUR_NUMBER,
                "edit": {"original_message_id": "wamid.x", "message": {"type": "text", "text": {"body": "Ready!"}}},
            },
            "unsupported",
        ),
    ],
)
async def test_what_changes_an_earlier_message_is_in_the_thread_and_holds_nothing(
    ingest: Ingest, change: dict[str, Any], kind: str
) -> None:
    conversation_id = await a_conversation(ingest)
    await ingest.post(of_echoes(an_echo(now(), None, **change)))
    await settled(ingest)
    assert [(row["conversation_id"], row["kind"]) for row in await ingest.rows(_OUT)] == [(conversation_id, kind)]
    assert await holds_of(ingest) == []
    assert len(await ingest.rows("select from customers")) == 1


async def test_an_echo_answers_the_message_that_it_quotes_and_brings_its_file(ingest: Ingest) -> None:
    question = a_message(now() - timedelta(minutes=1))
    await ingest.post(of_messages(question))
    (asked,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    photo = {"id": "1600", "mime_type": "image/jpeg", "caption": "The brakes"}
    echo = an_echo(now(), type="image", text=None, image=photo, context={"from": WA_ID, "id": question["id"]})
    await ingest.post(of_echoes(echo))
    await ingest.published.events(DELIVERY_UPDATES, 1)
    (row,) = await ingest.rows(_OUT)
    assert (row["kind"], row["content"]["media_id"], row["reply_to"]) == ("image", "1600", asked["message_id"])


async def test_what_staff_wrote_and_the_customer_then_stand_in_that_order(ingest: Ingest) -> None:
    """They come in one batch, as after an outage."""
    at = now()
    one = of_messages(a_message(at, "First"))["entry"][0]["changes"]
    two = of_echoes(an_echo(at, "Second"))["entry"][0]["changes"]
    three = of_messages(a_message(at, "Third"))["entry"][0]["changes"]
    await ingest.post({"object": "whatsapp_business_account", "entry": [{"id": WABA, "changes": one + two + three}]})
    await ingest.published.events(INBOUND_MESSAGES, 2)
    rows = await ingest.rows("select content ->> 'text' as text from messages order by sequence")
    assert [row["text"] for row in rows] == ["First", "Second", "Third"]


async def test_a_record_of_an_older_edge_with_several_echoes_is_understood(ingest: Ingest) -> None:
    other = "447700900998"
    value = a_value(
        contacts=[a_contact(), a_contact(other, name="Pat")],
        message_echoes=[an_echo(now(), "One"), an_echo(now(), "Two", to=other)],
    )
    record = {
        "received_at": now(),
        "item_kind": "change",
        "waba_id": WABA,
        "field": "smb_message_echoes",
        "phone_number_id": NUMBER,
        "item": value,
        "contact": None,
    }
    await ingest.producer.send_and_wait(
        f"{ingest.prefix}{WEBHOOKS.name}", MetaWebhook.encode_fields(record), key=f"{NUMBER}:".encode()
    )
    updates = await ingest.published.events(DELIVERY_UPDATES, 2)
    assert len({one["conversation_id"] for one in updates}) == 2
    names = await ingest.rows("select name from customers order by name")
    assert [row["name"] for row in names] == ["Kim", "Pat"]


async def test_an_echo_of_a_number_that_is_nobodys_is_a_dead_letter(ingest: Ingest) -> None:
    await ingest.post(of_echoes(an_echo(now()), number="999"))
    assert await ingest.reasons(WEBHOOKS, 1) == ["unknown_number"]


async def test_what_came_before_its_echo_is_of_another_system_unless_a_call_is_in_flight(ingest: Ingest) -> None:
    await a_conversation(ingest)
    echo = an_echo(now())
    await ingest.post(of_statuses(a_status(echo["id"], "sent", now())))
    await ingest.post(of_echoes(echo))
    await ingest.post(of_statuses(a_status(echo["id"], "delivered", now())))
    await settled(ingest)
    assert [row["status"] for row in await ingest.rows(_OUT)] == ["delivered"]
