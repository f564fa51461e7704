-- The tables of Transom. Every row carries org_id and every statement names it; ids that Transom makes are UUIDv7, so that new rows lie together.
-- Times are the provider's where the column says so, Transom's otherwise.

-- ── Directory: what the platform tells us ───────────────────────────────────────────────────────────────────────────────────────

create table orgs (
    org_id           text primary key,
    name             text not null,
    sms_number       text,                          -- E.164, the garage's own long number
    sms_active       boolean not null default false,
    portal_host      text,                          -- host of the magic links; wins over PORTAL_URL
    policy           jsonb not null default '{}',
    credit_exhausted boolean,                       -- null: unknown, and unknown allows
    upserted_at      timestamptz not null,          -- "at" of the newest org.upserted.v1 applied
    credit_at        timestamptz                    -- "at" of the newest org.credit.v1 applied
);

create table whatsapp_numbers (
    phone_number_id text primary key,
    org_id          text not null references orgs,
    waba_id         text not null,
    display_number  text not null,                  -- E.164; goes into wa.me links, never used as a key
    token           text,                           -- overrides WHATSAPP_TOKEN
    upserted_at     timestamptz not null
);
create index whatsapp_numbers_by_org on whatsapp_numbers (org_id);

create table customers (
    customer_id uuid primary key default uuidv7(),
    org_id      text not null references orgs,
    name        text,
    phone       text,                               -- E.164, or null: a customer may hide behind a user name
    phone_dead  text,                               -- the number an SMS provider called unusable; counts while it equals phone
    origin      text not null check (origin in ('directory', 'inbound', 'outbound')),
    upserted_at timestamptz                         -- "at" of the newest customer.upserted.v1 applied; null: not in the directory
);
create index customers_by_org on customers (org_id, customer_id);

-- A customer that turned out to be another one: the id given before stays an alias.
create table customer_aliases (
    alias       uuid primary key,
    org_id      text not null,
    customer_id uuid not null references customers
);
create index customer_aliases_of_customer on customer_aliases (customer_id);

create table customer_identities (
    org_id      text not null,
    kind        text not null check (kind in ('wa_id', 'bsuid', 'phone')),
    value       text not null,
    customer_id uuid not null references customers,
    primary key (org_id, kind, value)
);
create index customer_identities_by_customer on customer_identities (customer_id);

-- No row means the default: allowed, but for marketing.
create table consents (
    org_id      text not null,
    customer_id uuid not null,
    category    text not null check (category in ('transactional', 'service_reminders', 'marketing', 'whatsapp', 'sms')),
    allowed     boolean not null,
    at          timestamptz not null,
    primary key (customer_id, category)
);

-- consent.changed.v1 and org.credit.v1 keep their trail here, whoever changed what.
create table audit_log (
    audit_id    bigint generated always as identity primary key,
    org_id      text not null,
    customer_id uuid,
    action      text not null,
    detail      jsonb not null,
    at          timestamptz not null,
    recorded_at timestamptz not null default now(),
    source_key  text unique                         -- names the event, so that a redelivery adds no second line
);
create index audit_log_by_customer on audit_log (org_id, customer_id, at);

-- ── Conversations and the thread ────────────────────────────────────────────────────────────────────────────────────────────────

create table conversations (
    conversation_id      uuid primary key default uuidv7(),
    org_id               text not null references orgs,
    customer_id          uuid not null references customers,
    phone_number_id      text not null references whatsapp_numbers,
    wa_id                text,                      -- how Meta knows the customer: digits, no plus
    bsuid                text,
    last_customer_at     timestamptz,               -- opens the window; the provider's clock, merged with greatest()
    refused_at           timestamptz,               -- Meta's last 131047, the provider's clock
    last_inbound_channel text check (last_inbound_channel in ('whatsapp', 'sms', 'portal')),
    last_inbound_at      timestamptz,               -- newest inbound of any channel; the provider's clock
    created_at           timestamptz not null default now(),
    unique (phone_number_id, customer_id)
) with (fillfactor = 70);                           -- every inbound message updates its row: room for that in the same page
create index conversations_by_org on conversations (org_id, conversation_id);
create index conversations_by_customer on conversations (customer_id);

-- A conversation that was merged into another one keeps its id as an alias.
create table conversation_aliases (
    alias           uuid primary key,
    org_id          text not null,
    conversation_id uuid not null references conversations
);
create index conversation_aliases_of_conversation on conversation_aliases (conversation_id);

create sequence message_sequence;                   -- one line for all messages; within a conversation it is the order of deciding

create table messages (
    org_id            text not null,
    message_id        uuid not null default uuidv7(), -- of an outbound message: its intent's id
    conversation_id   uuid,                         -- null: a rejected intent that named no conversation of ours
    direction         text not null check (direction in ('in', 'out')),
    channel           text not null check (channel in ('whatsapp', 'sms', 'portal')),
    account           text,                         -- inbound: phone_number_id or the SMS number written to; scope of provider_id
    provider_id       text,                         -- inbound: wamid or MessageSid (an outbound message's ids stand in provider_ids)
    kind              text not null,                -- content.kind
    content           jsonb not null,
    reply_to          text,                         -- provider_id of the message replied to
    actor             text check (actor in ('ai', 'staff', 'system')),
    user_id           text,
    ai_generated      boolean not null default false,
    notification_type text,                         -- 'bridge'
    parent_id         uuid,                         -- of a bridge: the message it stands in for
    sequence          bigint not null default nextval('message_sequence'),
    status            text not null check (status in ('received', 'pending', 'sent', 'delivered', 'read', 'failed')),
    reason            text,
    provider_code     text,
    seq               integer not null default 0,   -- grows with every status told
    attempt           integer not null default 1,   -- outbound: the attempt that feeds the status
    sent_at           timestamptz,
    delivered_at      timestamptz,
    read_at           timestamptz,
    failed_at         timestamptz,
    occurred_at       timestamptz not null,         -- inbound: the provider's clock; outbound: created_at of the intent
    received_at       timestamptz not null,         -- when Transom first had it
    primary key (org_id, message_id)
);
create unique index messages_inbound_once on messages (account, provider_id) where direction = 'in';
create index messages_of_conversation on messages (conversation_id, sequence);

-- ── Deciding ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

create table decisions (
    org_id          text not null,
    intent_id       uuid not null,
    attempt         integer not null,
    conversation_id uuid,
    route           text not null check (route in ('session', 'template', 'bridge', 'silent', 'rejected')),
    channel         text check (channel in ('whatsapp', 'sms', 'portal')),
    reason          text not null,
    window_         json,                           -- as told: opened_at, closes_at, open
    slot_holder     uuid,                           -- reason bridge_already_sent: the intent whose bridge held the slot
    record          json not null,                  -- versioned: intent, facts, settings, now; decide() again from this alone
    command         json,                           -- what was told to a sender, null for silent and rejected; told again as it stands here
    decided_at      timestamptz not null,
    primary key (org_id, intent_id, attempt)
);
create index decisions_silenced_by on decisions (slot_holder, decided_at) where slot_holder is not null;

-- Second gate of the bridge: held while held_until > now; 'infinity' until the provider has accepted the bridge.
create table bridge_slots (
    conversation_id uuid primary key,
    org_id          text not null,
    intent_id       uuid not null,
    held_until      timestamptz not null
);

-- ── Sending ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

create table sends (
    org_id          text not null,
    message_id      uuid not null,                  -- the message that asked to be sent (for a bridge: the original's id)
    attempt         integer not null,
    provider        text not null check (provider in ('meta', 'sms')),
    conversation_id uuid not null,
    sequence        bigint not null,
    account         text not null,                  -- phone_number_id; for SMS the org's own number
    command         jsonb not null,
    state           text not null default 'pending'
                    check (state in ('pending', 'claimed', 'unknown', 'accepted', 'refused', 'failed')),
    due_at          timestamptz not null,           -- not before; of an unknown outcome: the next look for evidence
    expires_at      timestamptz not null,           -- its deadline
    blocks_until    timestamptz,                    -- null: holds back younger rows of its conversation while unsettled; else until then
    tries           integer not null default 0,     -- provider calls begun
    resends         integer not null default 0,     -- calls begun after an unknown outcome; at most one
    claim_id        uuid,
    claimed_at      timestamptz,
    lease_until     timestamptz,
    unknown_since   timestamptz,
    outcome         jsonb,                          -- the last answer (answer, code, reason), how often limited ones came, what is to be told
    link_hash       bytea,                          -- bridge: keyed hash of the code of the latest send
    text_hash       bytea,                          -- SMS: HMAC of the text of the latest send, to find it in the provider's list
    settled_at      timestamptz,
    told            boolean not null default false, -- settled and published
    created_at      timestamptz not null,
    primary key (org_id, message_id, attempt)
);
create index sends_due on sends (provider, due_at) where state = 'pending';
create index sends_overdue on sends (provider, expires_at) where state = 'pending';
create index sends_in_flight on sends (provider, lease_until) where state = 'claimed';
create index sends_unknown on sends (provider, due_at) where state = 'unknown';
create index sends_unsettled on sends (conversation_id, sequence) where state in ('pending', 'claimed', 'unknown');
create index sends_untold on sends (provider, settled_at) where settled_at is not null and not told;

-- Every provider id that any send ever got. A status finds its attempt here.
create table provider_ids (
    provider    text not null,                      -- 'meta' or 'sms'
    account     text not null,                      -- phone_number_id; for SMS the account sid
    provider_id text not null,
    org_id      text not null,
    message_id  uuid not null,                      -- the message whose status it feeds (for a bridge: the bridge's own id)
    send_id     uuid not null,                      -- message_id of the row in sends
    attempt     integer not null,
    applied     boolean not null default true,      -- false: came after its claim was lost; feeds a message that stands, and is evidence
    recorded_at timestamptz not null,
    primary key (provider, account, provider_id)
);
create index provider_ids_of_send on provider_ids (org_id, send_id, attempt);

-- A status whose provider id is not stored yet, or whose message is not: kept 8 days, applied by whoever settles the send. Both sides take
-- pg_advisory_xact_lock on hashtextextended(provider || ':' || account || ':' || provider_id, 0) first.
create table early_statuses (
    provider    text not null,
    account     text not null,
    provider_id text not null,
    status      text not null,
    code        text,
    callback    text,                               -- biz_opaque_callback_data
    item        jsonb not null,
    at          timestamptz not null,               -- the provider's clock
    received_at timestamptz not null,
    primary key (provider, account, provider_id, status)
);
create index early_statuses_by_callback on early_statuses (callback) where callback is not null;
create index early_statuses_by_age on early_statuses (received_at);

-- A number or account that must rest: throttled, or its breaker is open. Consulted by every claim, shared by all replicas.
create table pauses (
    provider text not null,
    account  text not null,
    scope    text not null check (scope in ('all', 'templates')),
    until_at timestamptz not null,
    tries    integer not null default 1,            -- pauses in a row, for the back-off
    reason   text not null,
    primary key (provider, account, scope)
);

-- How far ingest has come on each partition of webhooks.v1: a provider's silence proves something only while nothing waits.
create table progress (
    topic        text not null,
    partition    integer not null,
    caught_up_at timestamptz not null,              -- the last moment at which nothing waited
    since        timestamptz not null,              -- caught up without a gap since
    primary key (topic, partition)
);

-- ── Templates, links, money ─────────────────────────────────────────────────────────────────────────────────────────────────────

create table templates (
    org_id           text not null,
    waba_id          text not null,
    name             text not null,
    language         text not null,
    category         text not null check (category in ('UTILITY', 'MARKETING', 'AUTHENTICATION')),
    parameter_format text not null check (parameter_format in ('NAMED', 'POSITIONAL')),
    status           text not null,                 -- Meta's, upper case; only APPROVED is sendable
    body             text not null,
    header           jsonb,
    buttons          jsonb,
    updated_at       timestamptz not null,
    primary key (waba_id, name, language)
);
create index templates_by_org on templates (org_id);

create table portal_links (
    code_hash       bytea primary key,              -- HMAC of the code, never the code
    org_id          text not null,
    conversation_id uuid not null,
    message_id      uuid not null,                  -- the bridge message that carried it
    expires_at      timestamptz not null,
    created_at      timestamptz not null
);
create index portal_links_of_conversation on portal_links (conversation_id);

create table rate_card (
    valid_from date not null,
    channel    text not null,
    category   text not null,                       -- service, utility, marketing, authentication; for SMS: sms
    country    text not null,                       -- ISO 3166-1 alpha-2, '*' for any
    currency   text not null,
    price      numeric(12, 6) not null,
    primary key (channel, category, country, currency, valid_from)
);

create table charges (
    org_id          text not null,
    message_id      uuid not null,
    attempt         integer not null,
    conversation_id uuid not null,
    channel         text not null,
    category        text not null,
    segments        integer,
    currency        text,                           -- null: no rate card covers the day
    price           numeric(12, 6),                 -- of the whole message
    at              timestamptz not null,
    primary key (org_id, message_id, attempt)
);
create index charges_by_org on charges (org_id, at);
