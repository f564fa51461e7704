"""What the bench sends is what the services understand: a bench of dead letters would be fast and say nothing."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID, uuid4

import orjson

from libs.common.bridge.portal_keys import KEY_BYTES, PurposeKeys
from libs.common.events.inbound import MetaWebhook
from libs.common.events.intents import Intent, decode_intent
from libs.common.events.outbound import SmsCommand, WhatsappCommand
from libs.common.ids import callback_data
from libs.common.pages.cookies import as_bytes
from libs.common.portal_host import platform_origin
from services.ingest import meta
from services.ingest.items import MessageStatus
from services.ingest.parse import parse
from services.ingest.signature import signed_by_meta
from tests.bench import traffic
from tests.bench.statuses import WORDS

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_a_conversation_comes_again_only_after_all_others() -> None:
    turns = Counter(traffic.rounds(10, 25, seed=1, active=50))
    assert sum(turns.values()) == 25
    assert set(turns.values()) == {2, 3}


def test_a_load_touches_as_many_conversations_of_a_large_population_as_of_a_small_one() -> None:
    assert len(set(traffic.rounds(1_000_000, 5_000, seed=1))) == len(set(traffic.rounds(1_000, 5_000, seed=1)))


def test_few_pieces_of_work_lie_all_over_a_large_population() -> None:
    found = list(traffic.rounds(1_000_000, 500, seed=1))
    assert len(set(found)) == 500
    assert min(found) < 50_000
    assert max(found) > 950_000


def test_the_request_is_signed_over_exactly_its_body() -> None:
    head, _, body = traffic.signed_request("h", traffic.webhook(7, "wamid.7", AT)).partition(b"\r\n\r\n")
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert signed_by_meta(body, lines[b"X-Hub-Signature-256"], [traffic.SECRET.encode()])
    assert int(lines[b"Content-Length"]) == len(body)


def test_a_prepared_record_is_what_the_edge_makes_of_the_webhook() -> None:
    [split] = meta.split(orjson.loads(traffic.webhook(7, "wamid.7", AT)), AT)
    key, value = traffic.webhook_record(7, "wamid.7", AT)
    assert split[0] == key
    assert MetaWebhook.decode(split[1]) == MetaWebhook.decode(value)


def test_intents_and_commands_are_events_of_the_contract() -> None:
    one = uuid4()
    intent = decode_intent(traffic.intent(7, one, AT)[1])
    assert isinstance(intent, Intent)
    assert intent.conversation_id == UUID(traffic.conversation_id(7))
    assert WhatsappCommand.decode(traffic.whatsapp_command(7, one, 1, AT)[1]).message_id == one
    assert SmsCommand.decode(traffic.sms_command(7, one, 1, AT)[1]).message_id == one


def test_the_sessions_are_what_the_portal_stores_of_the_cookies() -> None:
    cookie = traffic.reader_headers(3)["Cookie"].partition("=")[2]
    keys = PurposeKeys([traffic.PORTAL_KEYS.encode()], "sessions")
    assert keys.hash(as_bytes(cookie) or b"") == traffic.session_hash(3)
    assert len({traffic.session_hash(r) for r in range(traffic.READERS)}) == traffic.READERS


def test_the_portals_keys_and_address_are_such_as_it_takes() -> None:
    assert platform_origin(str(traffic.PORTAL)) == traffic.PORTAL
    assert len(traffic.PORTAL_KEYS) >= KEY_BYTES


def test_readers_have_conversations_of_their_own_all_over_the_population() -> None:
    places = [traffic.reader(r, 1_000_000) for r in range(traffic.READERS)]
    assert len(set(places)) == traffic.READERS
    assert max(places) > 950_000


def test_a_page_is_asked_for_by_a_whole_request_without_a_body() -> None:
    head, _, body = traffic.page_request(3).partition(b"\r\n\r\n")
    assert head.startswith(b"GET /conversation HTTP/1.1\r\nHost: portal.example\r\n")
    assert not body


def test_statuses_are_split_and_understood_as_metas_are() -> None:
    callback = callback_data(traffic.org_id(7), uuid4(), 1)
    words = [(7, traffic.status(7, f"wamid.{word}", word, AT, callback)) for word in WORDS]
    records = meta.split(traffic.statuses_webhook([*words, (8, traffic.status(8, "wamid.8", "sent", AT, None))]), AT)
    assert [key for key, _ in records] == [f"{traffic.number_id(n)}:{traffic.wa_id(n)}".encode() for n in (7, 7, 7, 8)]
    items = [parse(value, reaction_opens=False) for _, value in records]
    assert all(isinstance(item, MessageStatus) for item in items)
    assert [item.status.status for item in items if isinstance(item, MessageStatus)] == [*WORDS, "sent"]
