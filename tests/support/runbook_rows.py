"""The rows that the queries of the runbooks find: one garage to which every trouble has happened.

Ids are those of ``runbooks.PLACEHOLDERS``. Each row stands for a state that a runbook proves. A query that finds none
of them looks for something that the services never write.
"""

from datetime import timedelta
from uuid import UUID

import asyncpg

from libs.common.clock import utc_now
from libs.common.db.pool import Connection
from libs.common.events.intents import BadIntent
from services.router.facts import Facts
from services.router.recorded_decision import pack
from tests.support.runbooks import PLACEHOLDERS

_ROWS = """
insert into orgs (org_id, name, sms_number, sms_active, country, currency, upserted_at)
values ('acme', 'AcmeMotors', '+447700900001', true, 'GB', 'GBP', now());
insert into whatsapp_numbers (phone_number_id, org_id, waba_id, display_number, upserted_at)
values ('106400000000001', 'acme', '206400000000001', '+447700900123', now());
insert into customers (customer_id, org_id, name, phone, origin)
values ('0b8f6a1e-4a52-4c36-9d3e-0f6b1f1f2a10', 'acme', 'Kim', '+447700900999', 'directory');
insert into consents (org_id, customer_id, category, allowed, at)
values ('acme', '0b8f6a1e-4a52-4c36-9d3e-0f6b1f1f2a10', 'sms', true, now());
insert into audit_log (org_id, customer_id, action, detail, at)
values ('acme', '0b8f6a1e-4a52-4c36-9d3e-0f6b1f1f2a10', 'consent.changed.v1', '{}', now());
insert into conversations (conversation_id, org_id, customer_id, phone_number_id, wa_id, last_customer_at,
                           last_refused_at)
values ('01900000-0000-7000-8000-0000000000c1', 'acme', '0b8f6a1e-4a52-4c36-9d3e-0f6b1f1f2a10', '106400000000001',
        '447700900999', now() - interval '20 hours', now() - interval '1 hour');
insert into conversation_heads (conversation_id, org_id, phone_number_id, last_at, channel)
values ('01900000-0000-7000-8000-0000000000c1', 'acme', '106400000000001', now(), 'whatsapp');

insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor, status, reason,
                      provider_code, attempt, failed_at, notification_type, parent_id, occurred_at, received_at)
select 'acme', ('01900000-0000-7000-8000-00000000000' || n)::uuid, '01900000-0000-7000-8000-0000000000c1', 'out',
       case when n = 5 then 'sms' else 'whatsapp' end, 'text', '{"kind": "text", "text": "Your car is ready."}', 'ai',
       case n when 3 then 'failed' when 4 then 'failed' when 5 then 'sent' else 'pending' end,
       case n when 3 then 'window_closed' when 4 then 'unknown_outcome' end, case n when 3 then '131047' end, 1,
       case when n in (3, 4) then now() - interval '1 hour' end, case when n = 5 then 'bridge' end,
       case when n = 5 then '01900000-0000-7000-8000-000000000003'::uuid end,
       now() - interval '2 hours', now() - interval '2 hours'
  from generate_series(1, 5) n;
insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, window_state, record,
                       command, decided_at)
select 'acme', ('01900000-0000-7000-8000-00000000000' || n)::uuid, a, '01900000-0000-7000-8000-0000000000c1',
       case when a = 2 then 'bridge' else 'session' end, case when a = 2 then 'sms' else 'whatsapp' end,
       case when a = 2 then 'window_closed' else 'window_open' end, '{"open": true}', 'RECORD',
       '{"expires_at": "2036-01-01T00:00:00Z"}', now() - interval '2 hours' + a * interval '1 minute'
  from generate_series(1, 4) n cross join generate_series(1, 2) a where a = 1 or n = 3;
insert into sends (org_id, message_id, attempt, channel, account, conversation_id, sequence, expires_at, created_at,
                   command, due_at, unknown_since, tries, provider, provider_account, state, outcome, settled_at,
                   published)
values ('acme', '01900000-0000-7000-8000-000000000001', 1, 'whatsapp', '106400000000001',
        '01900000-0000-7000-8000-0000000000c1', 1, now() + interval '10 hours', now() - interval '2 hours', '{}',
        now() - interval '2 hours', null, 0, null, null, 'pending', null, null, false),
       ('acme', '01900000-0000-7000-8000-000000000002', 1, 'whatsapp', '106400000000001',
        '01900000-0000-7000-8000-0000000000c1', 2, now() + interval '10 hours', now() - interval '2 hours', '{}',
        now() - interval '1 minute', now() - interval '90 minutes', 1, 'meta', null, 'unknown', '{"code": "timeout"}',
        null, false),
       ('acme', '01900000-0000-7000-8000-000000000003', 1, 'whatsapp', '106400000000001',
        '01900000-0000-7000-8000-0000000000c1', 3, now() + interval '10 hours', now() - interval '2 hours', '{}',
        now() - interval '2 hours', null, 1, 'meta', null, 'rerouted',
        '{"answer": "rerouted", "reason": "window_closed", "code": "131047"}', now() - interval '1 hour', true),
       ('acme', '01900000-0000-7000-8000-000000000004', 1, 'whatsapp', '106400000000001',
        '01900000-0000-7000-8000-0000000000c1', 4, now() - interval '1 hours', now() - interval '2 hours', '{}',
        now() - interval '2 hours', null, 1, 'meta', null, 'failed',
        '{"answer": "refused", "reason": "unknown_outcome", "code": null}', now() - interval '1 hour', true),
       ('acme', '01900000-0000-7000-8000-000000000003', 2, 'sms', '+447700900001',
        '01900000-0000-7000-8000-0000000000c1', 3, now() + interval '10 hours', now() - interval '1 hours', '{}',
        now() - interval '1 hours', null, 1, 'twilio', 'AC00000000000000000000000000000000', 'accepted', null,
        now() - interval '1 hour', true),
       ('acme', '01900000-0000-7000-8000-000000000006', 1, 'sms', '+447700900001',
        '01900000-0000-7000-8000-0000000000c1', 6, now() + interval '10 hours', now() - interval '1 hours', '{}',
        now() - interval '1 hours', null, 0, null, null, 'pending', null, null, false);
insert into provider_ids (channel, provider, account, provider_id, org_id, message_id, send_id, attempt, recorded_at)
values ('sms', 'twilio', 'AC00000000000000000000000000000000', 'SM1', 'acme', '01900000-0000-7000-8000-000000000005',
        '01900000-0000-7000-8000-000000000003', 2, now() - interval '1 hour');
insert into refusals (org_id, intent_id, attempt, event, waits_since)
values ('acme', '01900000-0000-7000-8000-000000000003', 1, '{"reason": "window_closed", "provider_code": "131047"}',
        now() - interval '1 hour');
insert into stale_attempts (org_id, message_id, attempt, deadline, due_at, tries)
values ('acme', '01900000-0000-7000-8000-000000000001', 1, now() + interval '10 hours', now() + interval '1 minute', 3);
insert into reconcile_progress (pass, upto) values ('unsent', now()), ('unheard', now() - interval '25 hours')
    on conflict (pass) do update set upto = excluded.upto;
insert into parked_records (topic, partition, record_offset, org_id, message_id, reason, event_type, parked_at)
values ('outbound.intents.v1', 0, 42, 'acme', '01900000-0000-7000-8000-000000000001', 'unknown_version',
        'outbound.intent.v9', now() - interval '10 minutes');
insert into bridge_slots (conversation_id, org_id, intent_id, held_until)
values ('01900000-0000-7000-8000-0000000000c1', 'acme', '01900000-0000-7000-8000-000000000003',
        now() + interval '23 hours');
insert into portal_links (code_hash, org_id, conversation_id, message_id, host, phone, expires_at, created_at)
values ('x', 'acme', '01900000-0000-7000-8000-0000000000c1', '01900000-0000-7000-8000-000000000005', 'tflow.link',
        '+447700900999', now() + interval '1 day', now());
insert into charges (org_id, message_id, attempt, conversation_id, channel, provider, category, segments, account,
                     sender, currency, price, at)
values ('acme', '01900000-0000-7000-8000-000000000005', 2, '01900000-0000-7000-8000-0000000000c1', 'sms', 'twilio',
        'sms', 1, 'AC00000000000000000000000000000000', '+447700900001', 'GBP', 0.04, now() - interval '1 hour');
insert into sms_days (org_id, day, segments, bridges) values ('acme', (now() at time zone 'utc')::date, 480, 420);
insert into rate_card (valid_from, channel, category, country, currency, price)
values ('2026-10-01', 'sms', 'sms', 'GB', 'GBP', 0.04);

insert into pauses (channel, provider, account, scope, kind, reason, proof, since, until_at, tries)
values ('whatsapp', 'meta', '106400000000001', 'all', 'fault', '131042', 'answer', now() - interval '1 hour',
        now() + interval '1 minute', 4),
       ('sms', 'twilio', '+447700900001@twilio:AC00000000000000000000000000000000', 'all', 'throttle', '20429',
        'answer', now() - interval '1 minute', now() + interval '1 minute', 2);
insert into country_pauses (provider, account, country, code, since, until_at)
values ('twilio', 'AC00000000000000000000000000000000', 'GB', '21408', now(), now() + interval '1 hour');
insert into address_marks (org_id, channel, address, reason, code, source, at, until)
values ('acme', 'sms', '+447700900999', 'no_phone', '21614', 'answer', now(), now() + interval '90 days');
insert into unconfirmed_sms (account, provider_id, org_id, message_id, send_id, attempt, accepted_at, due_at)
values ('AC00000000000000000000000000000000', 'SM1', 'acme', '01900000-0000-7000-8000-000000000005',
        '01900000-0000-7000-8000-000000000003', 2, now() - interval '1 hour', now());
insert into sms_list_outages (account, last_at) values ('AC00000000000000000000000000000000', now());

insert into progress (topic, partition, caught_up_at, since)
values ('webhooks.v1', 0, now() - interval '5 minutes', now() - interval '1 day');
insert into webhook_edges (edge_id, serves_since, known_until, last_post_at)
values ('01900000-0000-7000-8000-0000000000e1', now() - interval '1 day', now(), now() - interval '1 minute');
insert into webhook_refusals (edge_id, number, kind, reason, began_at, ended_at, times)
values ('01900000-0000-7000-8000-0000000000e1', 1, 'refused', 'kafka_away', now() - interval '1 hour',
        now() - interval '50 minutes', 120),
       ('01900000-0000-7000-8000-0000000000e1', 2, 'doubtful', 'bad_signature', now() - interval '1 hour',
        now() - interval '50 minutes', 12);
insert into resend_rounds (provider, opened_at, size, left_over) values ('meta', now() - interval '1 minute', 5, 3);
insert into resends (provider, org_id, message_id, attempt, released_at, late)
values ('meta', 'acme', '01900000-0000-7000-8000-000000000004', 1, now() - interval '1 hour', true);

insert into templates (org_id, waba_id, name, language, category, parameter_format, status, body, stale_since,
                       stale_code, updated_at)
values ('acme', '206400000000001', 'appointment_reminder', 'en_GB', 'UTILITY', 'NAMED', 'PAUSED', 'Hi', now(),
        '132000', now());
insert into template_syncs (org_id, waba_id, due_at, failures, error, failed_since)
values ('acme', '206400000000001', now(), 3, '190', now() - interval '1 hour');
insert into parked_messages (org_id, message_id, conversation_id, kind, actor, content, written_at, expires_at)
values ('acme', '01900000-0000-7000-8000-000000000009', '01900000-0000-7000-8000-0000000000c1', 'kept', 'staff', '{}',
        now(), now() + interval '7 days');
insert into conversation_merges (loser, org_id, winner, since)
values ('01900000-0000-7000-8000-0000000000c2', 'acme', '01900000-0000-7000-8000-0000000000c1', 0);
"""


def _record() -> str:
    """What the router records with a decision, of an intent of which little is known."""
    intent_id, org_id = UUID(PLACEHOLDERS["INTENT"]), PLACEHOLDERS["ORG"]
    bad = BadIntent(intent_id, org_id, "invalid_intent", "content", None, None, None, None)
    return pack(bad, Facts(window_length=timedelta(hours=24), margin=timedelta(0)), utc_now())


async def trouble(dsn: str) -> None:
    """Store the rows in a migrated database without any."""
    db: Connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await db.execute(_ROWS.replace("RECORD", _record()))
    finally:
        await db.close()
