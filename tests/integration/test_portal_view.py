"""The rule of what the portal shows, as SQL, is the rule of the pure function: over every message there can be."""

from itertools import product
from typing import Any
from uuid import UUID, uuid4

from libs.common.db.columns import as_columns
from libs.common.thread.portal_view import PortalCandidate, is_shown, shown
from tests.support.ingest import ORG
from tests.support.router import Router

ENDS = (
    *("bridge_sent", "bridge_failed", "bridge_already_sent", "no_phone", "sms_opted_out", "sms_unavailable"),
    *("never_contacted", "country_not_allowed", "spend_cap_reached", "credit_exhausted"),
)
REASONS = (
    None,
    *(f"{closed_by}_{end}" for closed_by in ("window_expired", "whatsapp_unreachable") for end in ENDS),
    *("intent_expired", "whatsapp_consent_off", "marketing_consent_off", "conversation_held", "not_permitted"),
    *("unsupported_content", "provider_refused", "unknown_outcome", "already_delivered"),
)
ROUTES = ("session", "template", "bridge", "silent", "rejected")
Decisions = tuple[tuple[str, str | None], ...]
DECISIONS: tuple[Decisions, ...] = (
    (),
    *(((route, None if route in ("silent", "rejected") else "whatsapp"),) for route in ROUTES),
    *((("session", "portal"), (route, None if route == "silent" else "whatsapp")) for route in ROUTES),
    (("session", "portal"),),
    (("bridge", "sms"), ("session", "whatsapp")),
)


async def test_the_sql_shows_what_the_rule_shows(router: Router) -> None:
    expected: dict[UUID, bool] = {}
    messages: list[tuple[Any, ...]] = []
    decisions: list[tuple[Any, ...]] = []
    released: list[tuple[str, UUID]] = []
    for status, reason, decided, (kind, notification), carried in product(
        ("pending", "sent", "delivered", "read", "failed"),
        REASONS,
        DECISIONS,
        (("text", None), ("bridge", None), ("text", "bridge")),
        (False, True),
    ):
        if carried and (status != "failed" or kind != "text"):
            continue  # only such a message waits
        message_id = uuid4()
        candidate = PortalCandidate(
            "out",
            kind,
            status,
            notification_type=notification,
            reason=reason,
            route=decided[-1][0] if decided else None,  # type: ignore[arg-type]  # a route
            answered=any(channel == "portal" for _, channel in decided),
            released=carried,
        )
        if carried:
            released.append((ORG, message_id))
        expected[message_id] = is_shown(candidate)
        messages.append((ORG, message_id, kind, notification, status, reason, max(1, len(decided)), "out", {}))
        decisions += [(ORG, message_id, n, route, channel) for n, (route, channel) in enumerate(decided, 1)]
    for kind, type_ in (("text", None), ("image", None), ("unsupported", "system"), ("unsupported", "poll")):
        message_id = uuid4()
        expected[message_id] = is_shown(PortalCandidate("in", kind, "received", type=type_))
        content = {} if type_ is None else {"type": type_}
        messages.append((ORG, message_id, kind, None, "received", None, 1, "in", content))
    async with router.pool.acquire() as db:
        await db.execute(
            "insert into messages (org_id, message_id, kind, notification_type, status, reason, attempt, direction,"
            " content, channel, occurred_at, received_at)"
            " select *, 'whatsapp', now(), now() from unnest($1::text[], $2::uuid[], $3::text[], $4::text[],"
            " $5::text[], $6::text[], $7::int[], $8::text[], $9::jsonb[])",
            *as_columns(messages),
        )
        await db.execute(
            "insert into decisions (org_id, intent_id, attempt, route, channel, reason, record, decided_at)"
            " select *, 'window_open', '{}', now() from unnest($1::text[], $2::uuid[], $3::int[], $4::text[],"
            " $5::text[])",
            *as_columns(decisions),
        )
        await db.execute(
            "insert into parked_messages (org_id, message_id, conversation_id, kind, actor, content, written_at,"
            " expires_at, state) select *, gen_random_uuid(), 'failed', 'ai', '{}', now(), now(), 'sent'"
            " from unnest($1::text[], $2::uuid[])",
            *as_columns(released),
        )
        rows = await db.fetch(f"select m.message_id, {shown('m')} as shown from messages m")
    found = {row["message_id"]: row["shown"] for row in rows}
    assert found == expected
    assert set(found.values()) == {True, False}
