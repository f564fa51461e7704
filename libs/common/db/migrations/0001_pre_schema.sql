-- The tables of Transom, room by room. docs/architecture/data.md says what grows, and in which order rows are locked.
--
-- Every row of a tenant carries org_id, and every statement about one tenant's data names it.
-- Ids that Transom makes are UUIDv7, so that rows of the same time lie together.
-- channel is how a message goes (whatsapp, sms, portal); provider is who carries it (meta, twilio).
-- "Provider's clock" marks a time that the provider gave. All other times are Transom's.


-- ── Directory: organisations and their business numbers ──────────────────────────────────────────────────────────────

create table orgs (
    org_id           text        primary key,
    name             text        not null,
    sms_number       text,                                  -- E.164: the number that the organisation's SMS come from
    sms_line         text,                                  -- the canonical number of its line
    sms_spellings    text[]      not null default '{}',     -- all numbers of its line
    sms_active       boolean     not null default false,
    sms_provider     text        check (sms_provider in ('twilio', 'vonage')), -- null: the one of the settings
    sms_account      text,                                  -- a name in SMS_ACCOUNTS; null: the one of the settings
    portal_host      text,                                  -- host of the portal links; wins over PORTAL_URL
    country          text,                                  -- ISO 3166-1 alpha-2; null: the country of sms_number
    currency         text,                                  -- ISO 4217
    sign_in_issuer   text,                                  -- the identity provider of its people, and their tenant
    sign_in_tenant   text,                                  -- there; both or none
    policy           jsonb       not null default '{}',
    credit_exhausted boolean,                               -- null: unknown, which allows sending
    upserted_at      timestamptz not null,                  -- "at" of the newest org.upserted.v1 applied
    credit_at        timestamptz                            -- "at" of the newest org.credit.v1 applied
);
-- An SMS number belongs to one organisation: texts to it are that organisation's, and no other sends from it.
-- That holds for the line, however its number is written.
create unique index orgs_sms_line_once on orgs (sms_line);
create index orgs_by_sms_number on orgs (sms_number);
create index orgs_by_sms_spelling on orgs using gin (sms_spellings);
-- What an organisation has left: customers answer there, and say STOP, for a while. A row ends when
-- another organisation has the line.
create table former_sms_numbers (
    org_id       text        not null references orgs,
    sms_line     text        not null,                      -- the canonical number of the line
    sms_provider text,                                      -- as in orgs
    sms_account  text,                                      -- as in orgs
    left_at      timestamptz not null default now(),
    unique nulls not distinct (sms_line, org_id, sms_provider, sms_account)
);
create index former_sms_numbers_by_age on former_sms_numbers (left_at);
-- So does a portal host: the portal knows by it whose page it shows. The platform's own host is stored as null.
create unique index orgs_portal_host_once on orgs (portal_host);
create unique index orgs_sign_in_once on orgs (sign_in_issuer, sign_in_tenant);

-- Meta's ids become part of addresses at the Graph API, so they must be digits.
-- A number that was removed has no org_id and can be claimed again. Its row stays, because conversations point at it.
create table whatsapp_numbers (
    phone_number_id text        primary key,
    org_id          text        references orgs,
    waba_id         text        not null,
    display_number  text        not null,                   -- E.164; goes into wa.me links, never used as a key
    token           text,                                   -- overrides WHATSAPP_TOKEN
    replaced_by     text,                                   -- the new phone_number_id of a number that moved
    created_at      timestamptz not null default now(),     -- the first number of an organisation is its oldest row
    upserted_at     timestamptz not null,                   -- "at" of the newest number.upserted.v1 applied
    constraint whatsapp_numbers_digits check (phone_number_id ~ '^[0-9]{5,20}$' and waba_id ~ '^[0-9]{5,20}$')
);
create index whatsapp_numbers_by_org on whatsapp_numbers (org_id);
-- Webhooks about templates name the WABA alone.
create index whatsapp_numbers_by_waba on whatsapp_numbers (waba_id) where org_id is not null;


-- ── Directory: customers and who they are ────────────────────────────────────────────────────────────────────────────

create table customers (
    customer_id     uuid        primary key default uuidv7(),
    org_id          text        not null references orgs,
    name            text,
    phone           text,                                   -- E.164; null where the customer is known by a BSUID alone
    phone_at        timestamptz,                            -- since when the directory gives this phone
    directory_phone text,                                   -- the phone that the directory gave last
    origin          text        not null check (origin in ('directory', 'inbound', 'outbound')),
    upserted_at     timestamptz,                            -- "at" of the newest customer.upserted.v1; null: not listed
    last_seen_at    timestamptz,                            -- of the portal: the latest sign-in or page; null: never
    erased          boolean     not null default false      -- by ``transom erase``, until the directory names them anew
);
-- Finds the listed customer who gets a line when its holder gives it up.
create index customers_by_listed_phone on customers (org_id, phone) where origin = 'directory' and phone is not null;

-- A customer that was merged into another one: the old id stays valid as an alias.
create table customer_aliases (
    alias       uuid primary key,
    org_id      text not null,
    customer_id uuid not null references customers
);
create index customer_aliases_of_customer on customer_aliases (customer_id);

-- Who has an identity now. former_identities holds who had it before, so that the question of every message
-- is one look at a small index. A sender is where an SMS came from that is no telephone number: a short code or a name.
create table customer_identities (
    org_id      text        not null,
    kind        text        not null check (kind in ('wa_id', 'bsuid', 'phone', 'sender')),
    value       text        not null,
    customer_id uuid        not null references customers,
    since       timestamptz not null default '1970-01-01T00:00:00Z', -- provider's clock
    source      text        not null default 'message'
                check (source in ('message', 'status', 'answer', 'notice', 'directory', 'shared', 'intent', 'stale',
                                  'sms')),
    line        text,                                       -- of a wa_id and a BSUID: its phone number (E.164)
    bsuid       text,                                       -- of a phone: its holder's BSUID
    seen        timestamptz,                                -- of a phone: since when Meta confirms it; null: never
    primary key (org_id, kind, value)
);
create index customer_identities_by_customer on customer_identities (customer_id);

create table former_identities (
    former_id   bigint      generated always as identity primary key,
    org_id      text        not null,
    kind        text        not null check (kind in ('wa_id', 'bsuid', 'phone', 'sender')),
    value       text        not null,
    customer_id uuid        not null references customers,
    since       timestamptz not null,
    until       timestamptz not null,                       -- the customer does not have it from then on
    source      text        not null,
    line        text,
    bsuid       text,
    seen        timestamptz,
    ended_by    text        not null
);
create index former_identities_by_value on former_identities (org_id, kind, value, until);
create index former_identities_by_customer on former_identities (customer_id);

-- Every notice of a changed number or BSUID, also of people who were unknown when it came. A customer who turns out
-- later to have had the old number had it until the notice. Webhooks come for seven days, so notices stay for eight.
create table identity_notices (
    org_id      text        not null,
    old_line    text        not null,                       -- phone number (E.164); empty where the notice names none
    old_bsuid   text        not null,
    new_line    text        not null,
    new_bsuid   text        not null,
    new_number  text        not null,                       -- the new line as Meta spelled it
    at          timestamptz not null,                       -- provider's clock
    received_at timestamptz not null,
    primary key (org_id, at, old_line, old_bsuid, new_line, new_bsuid)
);
create index identity_notices_by_old_line on identity_notices (org_id, old_line) where old_line <> '';
create index identity_notices_by_old_bsuid on identity_notices (org_id, old_bsuid) where old_bsuid <> '';
create index identity_notices_by_new_line on identity_notices (org_id, new_line) where new_line <> '';
create index identity_notices_by_new_bsuid on identity_notices (org_id, new_bsuid) where new_bsuid <> '';
create index identity_notices_by_age on identity_notices (received_at);


-- ── Directory: consent and marks ─────────────────────────────────────────────────────────────────────────────────────

-- No row means the default: everything is allowed except marketing.
create table consents (
    org_id      text        not null,
    customer_id uuid        not null,
    category    text        not null
                check (category in ('transactional', 'service_reminders', 'marketing', 'whatsapp', 'sms')),
    allowed     boolean     not null,
    at          timestamptz not null,
    address     text,                                       -- the number that an SMS opt-out holds for; null: all
    source      text,                                       -- 'whatsapp' or 'sms'; null: the directory
    cause       text,                                       -- how the customer said it
    lifts       boolean,                                    -- whether a typed START gives it back
    published   boolean     not null default true,          -- false: consent.changed.v1 is still to be published
    primary key (customer_id, category)
);
create index consents_unpublished on consents (at) where not published;

-- What customers who were erased had denied. It holds for whoever comes with their number or BSUID.
create table suppressions (
    org_id     text        not null,
    identity   bytea       not null,                        -- SHA-256 of the organisation and the number or BSUID
    category   text        not null,                        -- this and the others as in consents
    at         timestamptz not null,
    of_address boolean     not null default false,          -- a STOP by SMS: it holds for this number alone
    source     text,
    cause      text,
    lifts      boolean,
    primary key (org_id, identity, category)
);

-- The numbers and BSUIDs of customers who were erased, while what was said before may be delivered once more.
create table erased_identities (
    org_id    text        not null,
    identity  bytea       not null,                         -- as in suppressions
    at        timestamptz not null,                         -- when their holder was erased
    passed_on boolean     not null default false,           -- somebody else had it by then: at is since when
    primary key (org_id, identity)
);
create index erased_identities_by_age on erased_identities (at);

-- What a provider said about an address, on either channel: the next intent does not buy the same failure.
-- A line may be known under several spellings. Each spelling is a row, so that any of them finds it by the key.
create table address_marks (
    org_id  text        not null,
    channel text        not null check (channel in ('whatsapp', 'sms', 'marketing')), -- the last: by WhatsApp
    address text        not null,                           -- E.164 or a BSUID; a wa_id stands here with a plus
    reason  text        not null check (reason in ('unreachable', 'no_phone', 'sms_opted_out', 'marketing_limited')),
    code    text,                                           -- the provider's code, where it gave one
    source  text        not null check (source in ('answer', 'status', 'list', 'message')), -- message: a STOP by SMS
    at      timestamptz not null,                           -- when the provider or the customer said it
    until   timestamptz not null,                           -- the mark counts until then, and is deleted later
    primary key (org_id, channel, address, reason)
);
create index address_marks_over on address_marks (until);

-- Keeps the trail of consent.changed.v1 and org.credit.v1.
create table audit_log (
    audit_id    bigint      generated always as identity primary key,
    org_id      text        not null,
    customer_id uuid,
    action      text        not null,
    detail      jsonb       not null,
    at          timestamptz not null,
    recorded_at timestamptz not null default now(),
    source_key  text        unique                          -- names the event: a redelivery adds no second line
);
create index audit_log_by_customer on audit_log (org_id, customer_id, at);


-- ── Directory: templates and prices ──────────────────────────────────────────────────────────────────────────────────

-- Organisations may share a WABA, and each has its own copy of the templates there. Meta's word for a status stands in
-- upper case; only APPROVED may be sent. DRAFT was never submitted. DELETED is what Meta lists no more: the row stays.
create table templates (
    template_id      uuid        not null default uuidv7(), -- ours; one for (organisation, WABA, name, language)
    org_id           text        not null,
    waba_id          text        not null,
    name             text        not null,
    language         text        not null,
    category         text        not null check (category in ('UTILITY', 'MARKETING', 'AUTHENTICATION')),
    category_at      timestamptz,                           -- when Meta said the category; an older word never wins
    parameter_format text        not null check (parameter_format in ('NAMED', 'POSITIONAL')),
    status           text        not null,
    status_at        timestamptz,                           -- when Meta said the status
    rejected_reason  text,                                  -- Meta's word for the reason of the status
    quality          text,                                  -- Meta's word: GREEN, YELLOW, RED, UNKNOWN
    quality_at       timestamptz,                           -- when Meta said the quality
    meta_id          text,                                  -- Meta's id of it; null: not known yet
    components       jsonb       not null default '[]', -- all parts in Meta's shape; the next three come out of it
    components_at    timestamptz,                           -- when Meta said the components
    body             text        not null,
    header           jsonb,
    buttons          jsonb,
    draft            jsonb,                                 -- category and components that Meta does not have yet
    asked_at         timestamptz,                           -- since when a submission has no known outcome
    refusal          jsonb,                                 -- Meta's answer to the last submission, where it was no
    stale_since      timestamptz,                           -- Meta wanted other parameters than this copy names
    stale_code       text,                                  -- Meta's code; the next load or sync clears both
    synced_at        timestamptz,                           -- when Meta listed it last
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null,
    primary key (org_id, waba_id, name, language),
    constraint templates_digits check (waba_id ~ '^[0-9]{5,20}$' and meta_id ~ '^[0-9]{1,32}$')
);
create unique index templates_by_id on templates (org_id, template_id);
-- Webhooks name a template by its WABA alone.
create index templates_by_name on templates (waba_id, name, language);

-- What happened to a template, and by whose word. Kept for two years.
create table template_history (
    history_id  bigint      generated always as identity primary key,
    org_id      text        not null,
    template_id uuid        not null,
    event       text        not null check (event in ('drafted', 'submitted', 'edited', 'refused', 'status', 'category',
                                                      'quality', 'components', 'deleted')),
    word        text,                                       -- the new status, category or quality
    reason      text,
    source      text        not null check (source in ('person', 'answer', 'webhook', 'sync', 'load', 'send')),
    user_id     text,
    at          timestamptz not null
);
create index template_history_by_template on template_history (org_id, template_id, history_id);
create index template_history_by_age on template_history (at);

-- When the templates of an organisation in one of its WABAs are read from Meta. A run holds the lease of its row.
create table template_syncs (
    org_id       text        not null references orgs,
    waba_id      text        not null,
    due_at       timestamptz not null,
    marked_at    timestamptz,                               -- the latest wish of a webhook or of a person
    leased_until timestamptz,
    started_at   timestamptz,                               -- of the latest run
    synced_at    timestamptz,                               -- the start of the latest run that read everything
    templates    int,                                       -- how many it read
    failures     int         not null default 0,            -- runs in a row that Meta refused or did not answer
    error        text,                                      -- Meta's code, or why there was no answer
    failed_since timestamptz,
    rests_until  timestamptz,                               -- after a failure
    primary key (org_id, waba_id)
);
create index template_syncs_by_due on template_syncs (due_at);

create table rate_card (
    valid_from date           not null,
    channel    text           not null,
    category   text           not null,                     -- service, utility, marketing, authentication; of SMS: sms
    country    text           not null,                     -- ISO 3166-1 alpha-2, '*' for any
    currency   text           not null,
    price      numeric(12, 6) not null,
    primary key (channel, category, country, currency, valid_from)
);


-- ── Thread: conversations and messages ───────────────────────────────────────────────────────────────────────────────

-- Refusals are Meta's 131047 for free-form sends. A refusal right after a message may be Meta's own fault, so one alone
-- does not close the window; identity_changed_at does.
create table conversations (
    conversation_id      uuid        primary key default uuidv7(),
    org_id               text        not null references orgs,
    customer_id          uuid        not null references customers,
    phone_number_id      text        references whatsapp_numbers, -- null: a customer of an organisation without one
    wa_id                text,                              -- Meta's name for the customer: digits, no plus
    wa_id_at             timestamptz,                       -- newest message or call with wa_id; provider's clock
    bsuid                text,
    bsuid_at             timestamptz,                       -- the same of bsuid
    last_customer_at     timestamptz,                       -- opens the window; provider's clock, never goes back
    identity_changed_at  timestamptz,                       -- another number or, perhaps, person: closes it then
    first_refused_at     timestamptz,                       -- the first refused send since a customer's message
    last_refused_at      timestamptz,                       -- the newest one
    last_inbound_channel text        check (last_inbound_channel in ('whatsapp', 'sms', 'portal')),
    last_inbound_at      timestamptz,                       -- newest inbound, but STOP by SMS; provider's clock
    identity_version     bigint      not null default 0,    -- grows when its customer is resolved anew
    created_at           timestamptz not null default now(),
    unique (phone_number_id, customer_id)
) with (fillfactor = 70);                                   -- every inbound message updates a row in its page
create unique index conversations_without_number on conversations (customer_id) where phone_number_id is null;
create index conversations_by_customer on conversations (customer_id);

-- A conversation that was merged into another one keeps its id as an alias.
create table conversation_aliases (
    alias           uuid primary key,
    org_id          text not null,
    conversation_id uuid not null references conversations
);
create index conversation_aliases_of_conversation on conversation_aliases (conversation_id);

-- Conversations that were merged into another one, and whose rows are still being moved there in slices.
-- Customer, window, slot, links and alias are settled in the transaction that writes the row. The row stays for some
-- time after the last slice: a process that read the old conversation before may write under it for a moment.
create table conversation_merges (
    loser    uuid        primary key,                       -- the conversation that was merged away
    org_id   text        not null,
    winner   uuid        not null,                          -- where its rows go; follows when the winner is merged away
    began_at timestamptz not null default now(),
    since    bigint      not null,                          -- value of message_sequence when it began
    below    bigint      not null default 9223372036854775807, -- messages from this sequence on have been moved
    moved    bigint      not null default 0,                -- messages moved so far
    looks    integer     not null default 0,                -- looks for late rows since the last slice
    due_at   timestamptz not null default now()             -- when the next slice or look is due
);
create index conversation_merges_of_winner on conversation_merges (winner);
create index conversation_merges_due on conversation_merges (due_at);

-- A WhatsApp group has a thread, but no customer and no window. It is no conversation, and nothing can be sent to it.
create table group_threads (
    org_id          text        not null,
    phone_number_id text        not null references whatsapp_numbers,
    group_id        text        not null,                   -- Meta's id
    conversation_id uuid        not null default uuidv7(),  -- of its messages
    primary key (org_id, phone_number_id, group_id)
);
create unique index group_threads_by_conversation on group_threads (org_id, conversation_id);

create sequence message_sequence;                           -- within a conversation it is the order of deciding

create table messages (
    org_id            text        not null,
    message_id        uuid        not null default uuidv7(), -- of an outbound message: its intent's id
    conversation_id   uuid,                                 -- null: a rejected intent without a conversation
    direction         text        not null check (direction in ('in', 'out')),
    channel           text        not null check (channel in ('whatsapp', 'sms', 'portal')),
    provider          text,                                 -- inbound: who brought it
    account           text,                                 -- inbound: phone_number_id or SMS number
    provider_id       text,                                 -- inbound: wamid or MessageSid; outbound: provider_ids
    from_wa_id        text,                                 -- inbound: the ids that the message came with: a late
    from_bsuid        text,                                 -- notice moves what came from a number given up
    kind              text        not null,                 -- content.kind
    content           jsonb       not null,
    reply_to          text,                                 -- inbound: provider_id of the message replied to;
                                                            -- outbound: its message_id
    actor             text        check (actor in ('ai', 'staff', 'system')),
    user_id           text,
    ai_generated      boolean     not null default false,   -- the AI wrote it; false of a bridge SMS
    notification_type text,                                 -- 'bridge'
    parent_id         uuid,                                 -- of a bridge: the message that it stands in for
    sequence          bigint      not null default nextval('message_sequence'),
    status            text        not null
                      check (status in ('received', 'pending', 'sent', 'delivered', 'read', 'failed')),
    reason            text,
    provider_code     text,
    seq               integer     not null default 0,       -- grows with every status published
    attempt           integer     not null default 1,       -- outbound: the attempt that feeds the status
    sent_at           timestamptz,
    delivered_at      timestamptz,
    read_at           timestamptz,
    read_channel      text        check (read_channel in ('whatsapp', 'sms', 'portal')), -- where it was read, if that is
                                                            -- not the channel it went by; null: the same one
    failed_at         timestamptz,
    occurred_at       timestamptz not null,                 -- inbound: provider's clock; outbound: of the intent
    received_at       timestamptz not null,                 -- when Transom first had it
    primary key (org_id, message_id)
) with (fillfactor = 70);                                   -- every status updates its row in its page, and no index
create unique index messages_inbound_once on messages (provider, account, provider_id) where direction = 'in';
create index messages_of_conversation on messages (conversation_id, sequence);

-- Providers deliver a concatenated SMS part by part, in any order. A message is joined from the parts of one row here,
-- once all are there or one has been missing for too long. The number that a phone gives its message (ref) comes back
-- after some messages, so what belongs together is said here and not by the number.
create table sms_joins (
    join_id   uuid        primary key default uuidv7(),
    org_id    text        not null,
    provider  text        not null,
    account   text        not null,                         -- the SMS number that was called
    sender    text        not null,
    ref       text        not null,
    total     integer     not null,                         -- how many parts the message has
    opened_at timestamptz not null default now(),           -- when its first part came
    closed_at timestamptz,                                  -- null: parts are missing; then it takes no more parts
    published boolean     not null default false            -- the joined message is published
);
create index sms_joins_open on sms_joins (org_id, account, sender, ref) where closed_at is null;
create index sms_joins_unpublished on sms_joins (opened_at) where not published;
create index sms_joins_by_age on sms_joins (opened_at);

create table sms_parts (
    provider    text        not null,
    account     text        not null,
    provider_id text        not null,
    org_id      text        not null,
    join_id     uuid        not null references sms_joins on delete cascade,
    number      integer     not null,
    text        text,                                       -- null: a binary part
    at          timestamptz not null,                       -- provider's clock, where it tells a time
    received_at timestamptz not null,
    primary key (provider, account, provider_id)
);
create index sms_parts_of_join on sms_parts (join_id);


-- ── Thread: provider ids and statuses ────────────────────────────────────────────────────────────────────────────────

-- Every id that a provider gave a send. A status finds its attempt here.
create table provider_ids (
    channel     text        not null check (channel in ('whatsapp', 'sms')),
    provider    text        not null,
    account     text        not null,                       -- phone_number_id at Meta, the account sid at Twilio
    provider_id text        not null,
    org_id      text        not null,
    message_id  uuid        not null,                       -- the message whose status it feeds (the bridge itself)
    send_id     uuid        not null,                       -- message_id of the row in sends
    attempt     integer     not null,
    applied     boolean     not null default true,          -- false: stored as evidence after the claim was lost
    recorded_at timestamptz not null,
    primary key (provider, account, provider_id)
);
create index provider_ids_of_send on provider_ids (org_id, send_id, attempt);

-- A status whose provider id or message is not stored yet. The transaction that settles the send applies it.
-- It is kept for 8 days, without callback data for an hour. Both sides take the advisory lock PROVIDER_IDS first.
create table early_statuses (
    channel     text        not null check (channel in ('whatsapp', 'sms')),
    provider    text        not null,
    account     text        not null,
    provider_id text        not null,
    status      text        not null,
    code        text,
    callback    text,                                       -- biz_opaque_callback_data
    item        jsonb       not null,                       -- the status as the provider sent it
    at          timestamptz not null,                       -- provider's clock
    received_at timestamptz not null,
    primary key (provider, account, provider_id, status)
);
create index early_statuses_by_callback on early_statuses (callback) where callback is not null;
create index early_statuses_by_age on early_statuses (received_at);
create index early_statuses_nameless on early_statuses (received_at) where callback is null;

-- What Meta says about the price of a message, in its statuses: the last word. Meta's words are kept as they are.
create table message_pricing (
    org_id      text        not null,
    message_id  uuid        not null,
    provider_id text        not null,                       -- wamid
    attempt     integer     not null,
    type        text,                                       -- regular, free_customer_service, …
    category    text,                                       -- service, utility, marketing, …
    model       text,                                       -- PMP, CBP
    billable    boolean,
    more        jsonb,                                      -- the other fields of the object
    at          timestamptz not null,                       -- of the status that said it (Rule 2 of pricing.py)
    charge_due  boolean     not null default true,          -- a charge is to be made of it, or made anew
    primary key (org_id, message_id, provider_id)
);
create index message_pricing_due on message_pricing (at) where charge_due;


-- ── Router: decisions and what must not be forgotten ─────────────────────────────────────────────────────────────────

create table decisions (
    org_id          text        not null,
    intent_id       uuid        not null,
    attempt         integer     not null,
    conversation_id uuid,
    route           text        not null check (route in ('session', 'template', 'bridge', 'silent', 'rejected')),
    channel         text        check (channel in ('whatsapp', 'sms', 'portal')),
    reason          text        not null,
    window_state    json,                                   -- as published: opened_at, closes_at, open
    slot_holder     uuid,                                   -- of bridge_already_sent: the intent that held the slot
    record          json        not null,                   -- versioned: all that decide() needs to decide again
    command         json,                                   -- the sender's command, published again as it stands here
    decided_at      timestamptz not null,
    primary key (org_id, intent_id, attempt)
);
create index decisions_silenced_by on decisions (slot_holder, decided_at) where slot_holder is not null;
create index decisions_by_time on decisions (decided_at) where command is not null;

-- Refusals that the router has not decided on yet. A row is written by the transaction that refuses, and deleted
-- once the decision of the next attempt is published.
create table refusals (
    org_id      text        not null,
    intent_id   uuid        not null,
    attempt     integer     not null,                       -- the attempt that was refused
    event       jsonb       not null,                       -- outbound.refused.v1
    waits_since timestamptz not null,                       -- since it was written, or since the router looked last
    primary key (org_id, intent_id, attempt)
);
create index refusals_waiting on refusals (waits_since);

-- Decisions with a command of which nothing followed in time: no send, or a send without an outcome.
create table stale_attempts (
    org_id     text        not null,
    message_id uuid        not null,
    attempt    integer     not null,
    deadline   timestamptz not null,                        -- without a send until then the message ends
    due_at     timestamptz not null,                        -- when the router looks again
    tries      integer     not null default 0,              -- looks so far
    primary key (org_id, message_id, attempt)
);
create index stale_attempts_due on stale_attempts (due_at);

-- Answers that were given in the portal. The router looks at a row when it is due: what was read meanwhile is over, and
-- what stays unread for too long is decided again. A row is deleted when its answer is over.
create table portal_answers (
    org_id     text        not null,
    message_id uuid        not null,
    attempt    integer     not null,                       -- the attempt that was decided for the portal
    due_at     timestamptz not null,                       -- when the router looks next
    primary key (org_id, message_id, attempt)
);
create index portal_answers_due on portal_answers (due_at);

-- How far each pass has looked through the decisions. Each decision is looked at once.
create table reconcile_progress (
    pass text        primary key,
    upto timestamptz not null                               -- decided_at
);
insert into reconcile_progress (pass, upto) values
    ('unsent',  '1970-01-01T00:00:00Z'),
    ('unheard', '1970-01-01T00:00:00Z');

-- Records in a dead-letter topic that name an intent. Rows stay as long as the dead letters do.
create table parked_records (
    topic         text        not null,
    partition     integer     not null,
    record_offset bigint      not null,
    org_id        text        not null,
    message_id    uuid        not null,                     -- the intent
    reason        text        not null,
    event_type    text,
    parked_at     timestamptz not null,
    primary key (topic, partition, record_offset)
);
create index parked_records_of_message on parked_records (org_id, message_id);
create index parked_records_by_age on parked_records (parked_at);


-- ── Bridge: the slot and its links ───────────────────────────────────────────────────────────────────────────────────

-- The second gate of the bridge; Redis is the first. A slot is held while held_until > now.
create table bridge_slots (
    conversation_id uuid        primary key,
    org_id          text        not null,
    intent_id       uuid        not null,                   -- the holder
    held_until      timestamptz not null,                   -- 'infinity' until the provider has accepted the bridge
    others          uuid[]      not null default '{}'       -- whose bridges are in flight as well, since a merge
);

create table portal_links (
    code_hash       bytea       primary key,                -- HMAC of the code, never the code
    org_id          text        not null,
    conversation_id uuid        not null,
    message_id      uuid        not null,                   -- the bridge message that carried it
    host            text        not null,                   -- where it opens: a host, with its port if it has one
    phone           text        not null,                   -- E.164: the number that the SMS went to
    expires_at      timestamptz not null,
    created_at      timestamptz not null,
    used_at         timestamptz                             -- when it opened a session; it opens one only
);
create index portal_links_of_conversation on portal_links (conversation_id);
create index portal_links_by_expiry on portal_links (expires_at);

-- A customer's session in the portal: of one conversation, on one host, while the phone stays theirs. The cookie has
-- its id, and the row a keyed hash of that. What ends a link of a conversation deletes its sessions as well.
create table portal_sessions (
    session_hash    bytea       primary key,                -- HMAC of the id in the cookie, never the id
    session_name    uuid        not null default uuidv7(),  -- what events call it
    org_id          text        not null,
    conversation_id uuid        not null,
    host            text        not null,
    phone           text        not null,
    created_at      timestamptz not null,
    seen_at         timestamptz not null,                   -- the latest request, to a minute; idle after 24 hours
    ends_at         timestamptz not null,                   -- at the latest
    minute_began    timestamptz,                            -- of the messages that minute_count counts
    minute_count    integer     not null default 0,
    day_began       timestamptz,                            -- of the messages that day_count counts
    day_count       integer     not null default 0,
    posted_at       timestamptz                             -- "at" of the latest message that was published
);
create index portal_sessions_of_conversation on portal_sessions (conversation_id);
create index portal_sessions_by_end on portal_sessions (ends_at);


-- ── Inbox: members, what they have read, and their sessions ──────────────────────────────────────────────────────────

-- The people of an organisation, as they signed in or asked the API.
create table members (
    org_id          text        not null references orgs,
    user_id         text        not null,                   -- the subject of their tokens
    name            text,
    notify_failures boolean     not null default true,      -- the bell tells of failed deliveries
    read_below      bigint      not null default 0,         -- all messages up to this sequence count as read
    notices_seen    bigint      not null default 0,         -- all notices up to this notice_id count as seen
    first_seen_at   timestamptz not null,
    seen_at         timestamptz not null,
    primary key (org_id, user_id)
);

-- A conversation is unread for a member while its newest inbound sequence is above both of read_below and this.
create table member_reads (
    org_id          text        not null,
    user_id         text        not null,
    conversation_id uuid        not null,
    read_sequence   bigint      not null,
    primary key (org_id, user_id, conversation_id)
);
create index member_reads_of_conversation on member_reads (conversation_id);

create table inbox_sessions (
    session_hash bytea       primary key,                   -- keyed hash of the cookie
    org_id       text        not null,
    user_id      text        not null,
    name         text,
    capabilities text[]      not null,
    created_at   timestamptz not null,
    seen_at      timestamptz not null,
    ends_at      timestamptz not null
);
create index inbox_sessions_by_end on inbox_sessions (ends_at);

-- The key of what all replicas of the inbox sign: forms, cursors, and what a browser keeps while somebody signs in.
-- The first one that starts makes it.
create table inbox_key (
    the_only_one boolean     primary key default true check (the_only_one),
    key          bytea       not null
);

-- What lists of conversations need beside the thread. The inbox worker computes a row anew whenever something was
-- published about its conversation, so a row may be late, and is never wrong for long.
create table conversation_heads (
    conversation_id  uuid        primary key,
    org_id           text        not null,
    phone_number_id  text,
    last_sequence    bigint      not null default 0,        -- of the newest message; 0: the customer has only called
    last_message_id  uuid,
    last_at          timestamptz not null,
    channel          text        not null,                  -- where the customer wrote last, else of the newest message
    inbound_sequence bigint,                                -- of the newest message of the customer that is no reaction
    inbound_at       timestamptz,
    unanswered_since timestamptz,                           -- the oldest message of the customer without an answer
    failed_sequence  bigint,                                -- of the newest failed message that nothing made good
    last_customer_at timestamptz,                           -- as in conversations, for lists by window
    closed_early     boolean     not null default false,    -- closed before its time: Meta refused, or another number
    seen_sequence    bigint      not null default 0,        -- up to here some member has read; it only grows
    unread_since     timestamptz,                           -- the oldest message of the customer that is unread
    escalated_at     timestamptz                            -- conversation.unread.v1 was told of this unread episode
);
create index conversation_heads_newest on conversation_heads (org_id, last_sequence desc);
create index conversation_heads_to_escalate on conversation_heads (org_id, unread_since)
    where unread_since is not null and escalated_at is null;
create index conversation_heads_escalated on conversation_heads (org_id, last_sequence desc)
    where escalated_at is not null;
create index conversation_heads_inbound on conversation_heads (org_id, inbound_sequence desc);
create index conversation_heads_by_window on conversation_heads (org_id, last_customer_at);
create index conversation_heads_failed on conversation_heads (org_id, last_sequence desc)
    where failed_sequence is not null;
create index conversation_heads_by_channel on conversation_heads (org_id, channel, last_sequence desc);
create index conversation_heads_by_number on conversation_heads (org_id, phone_number_id, last_sequence desc);

-- What the search finds, beside the thread: the words of messages, and the names and numbers of customers. Every word
-- begins with its organisation, so one index serves all, and a word of one organisation is none of another's. Words are
-- entered as they come (fastupdate): put off, they would be entered by one insert, which runs into its time limit.
create table message_words (
    org_id     text     not null,
    message_id uuid     not null,
    words      tsvector not null,
    primary key (org_id, message_id)
);
create index message_words_by_word on message_words using gin (words) with (fastupdate = off);

create table customer_words (
    org_id      text     not null,
    customer_id uuid     primary key,
    words       tsvector not null
);
create index customer_words_by_word on customer_words using gin (words) with (fastupdate = off);

-- Staff hold a conversation: AI agents are silent in it until then. A row stays when a hold is over, for its "at".
create table conversation_holds (
    conversation_id uuid        primary key,
    org_id          text        not null,
    user_id         text,
    at              timestamptz not null,                   -- of the newest event; an older one never wins
    until_at        timestamptz,                            -- null: released
    published       boolean     not null default true       -- false: the event is still to be published
);
create index conversation_holds_unpublished on conversation_holds (at) where not published;
create index conversation_holds_by_end on conversation_holds (org_id, until_at);

-- What was asked for through the inbox, by the id of its intent. The same Idempotency-Key is the same id, and its body
-- must be the same too. Counts what a person sends.
create table inbox_sends (
    org_id    text        not null,
    intent_id uuid        not null,
    user_id   text        not null,
    body_hash bytea       not null,
    sent_at   timestamptz not null,
    published boolean     not null default false,           -- the intent is on the topic
    primary key (org_id, intent_id)
);
create index inbox_sends_of_person on inbox_sends (org_id, user_id, sent_at);
create index inbox_sends_by_age on inbox_sends (sent_at);

-- Messages that wait for the window to open: kept by staff without an attempt, or failed because it was closed. The id
-- of a failed one is that of its message, and the id of a kept one is that of no message.
create table parked_messages (
    org_id          text        not null,
    message_id      uuid        not null,
    conversation_id uuid        not null,
    kind            text        not null check (kind in ('kept', 'failed')),
    actor           text        not null check (actor in ('ai', 'staff')), -- who wrote it
    user_id         text,
    content         jsonb       not null,
    reason          text,                                   -- of a failed one, as its delivery update says
    written_at      timestamptz not null,                   -- the order in which they are sent
    parked_at       timestamptz not null default now(),
    expires_at      timestamptz not null,                   -- it is neither offered nor sent from then on
    state           text        not null default 'waiting'
                    check (state in ('waiting', 'sent', 'dropped')),
    intent_id       uuid,                                   -- of the release that carries it, or that was tried
    primary key (org_id, message_id)
);
create index parked_messages_of_conversation on parked_messages (conversation_id, state);
create index parked_messages_of_release on parked_messages (org_id, intent_id) where intent_id is not null;
create index parked_messages_by_age on parked_messages (expires_at) where state <> 'sent' or kind = 'kept';

-- Releases whose intent is not known to be published. A row is written by the transaction that takes the texts, and
-- deleted once Kafka has acknowledged the intent.
create table parked_releases (
    org_id          text        not null,
    intent_id       uuid        not null,
    conversation_id uuid        not null,
    intent          text        not null,                   -- outbound.intent.v1, published as it stands here
    released_at     timestamptz not null,
    primary key (org_id, intent_id)
);
create index parked_releases_by_age on parked_releases (released_at);

-- What was told on inbox.notices.v1, and what the bell shows: one row per unread episode, one per failed message.
create table inbox_notices (
    notice_id       bigint      generated always as identity primary key,
    org_id          text        not null,
    type            text        not null check (type in ('conversation.unread.v1', 'delivery.failed.v1')),
    conversation_id uuid        not null,
    since           timestamptz,                            -- of an unread episode
    message_id      uuid,                                   -- of a failed message
    reason          text,
    provider_code   text,
    at              timestamptz not null default now(),
    published       boolean     not null default false
);
create unique index inbox_notices_unread_once on inbox_notices (org_id, conversation_id, since) where since is not null;
create unique index inbox_notices_failed_once on inbox_notices (org_id, message_id) where message_id is not null;
create index inbox_notices_newest on inbox_notices (org_id, type, notice_id);
create index inbox_notices_unpublished on inbox_notices (notice_id) where not published;
create index inbox_notices_by_age on inbox_notices (at);


-- What the streams of an organisation tell, in order. The inbox worker adds a row for everything that was published
-- about a conversation, in the transaction that stores the rest. Its numbers count within the organisation: the row of
-- the feed is locked until the commit, so that a reader who has seen a number has seen all below it. An event's id is
-- made of the feed's name and the number.
create table inbox_feeds (
    org_id text   primary key,
    feed   uuid   not null default gen_random_uuid(),       -- its name in ids: those of another feed are unknown here
    last   bigint not null                                  -- the number of the newest change
);
create table inbox_changes (
    org_id          text        not null,
    change          bigint      not null,
    conversation_id uuid        not null,
    message_id      uuid,                                   -- null: of the conversation itself
    kind            text        not null check (kind in ('message', 'update', 'conversation')),
    at              timestamptz not null default now(),
    primary key (org_id, change)
);
create index inbox_changes_by_age on inbox_changes (at);

-- Customers of whom something changed that no event tells: a call, a name, a consent, a visit to the portal. The inbox
-- computes the heads of their conversations anew, tells its streams, and takes the rows away.
create table touched_customers (
    org_id      text        not null,
    touch_id    bigint      generated always as identity,
    customer_id uuid        not null,
    merged      uuid,                                       -- a conversation that became part of one of theirs
    primary key (org_id, touch_id)
);
create index touched_customers_of_one on touched_customers (org_id, customer_id);


-- ── Sending: one row per send, and what it costs ─────────────────────────────────────────────────────────────────────

-- What changes stands last: PostgreSQL logs an update of a row within its page from the first byte that differs to the
-- last. So the command is written once. The free half of a page takes the two later versions of its rows.
create table sends (
    org_id             text        not null,
    message_id         uuid        not null,                -- the message to be sent (of a bridge: the original's id)
    attempt            integer     not null,
    channel            text        not null check (channel in ('whatsapp', 'sms')),
    account            text        not null,                -- phone_number_id; for SMS the organisation's own number
    template           boolean     not null default false,  -- a pause of scope 'templates' holds for it
    conversation_id    uuid        not null,
    sequence           bigint      not null,                -- the order within the conversation
    expires_at         timestamptz not null,                -- the deadline of the message
    created_at         timestamptz not null,
    command            jsonb       not null,                -- without what has a column here
    due_at             timestamptz not null,                -- pending: not before; unknown: the next look for evidence
    blocks_order_until timestamptz,                         -- unsettled, it holds back younger rows of its conversation
                                                            -- until then; null: until it is settled
    deferred_until     timestamptz,                         -- pending behind an older row: not looked at until that row
                                                            -- moves, or until then; 'infinity': only its move counts
    unknown_since      timestamptz,
    resends            integer     not null default 0,      -- calls begun after an unknown outcome; at most one
    tries              integer     not null default 0,      -- provider calls begun
    provider           text,                                -- who took its latest claim: only evidence of that provider
                                                            -- settles a lost answer; null: it was never claimed
    provider_account   text,                                -- the provider's account that took it; null: the number is
                                                            -- the account (Meta), or it was never claimed
    claim_id           uuid,
    claimed_at         timestamptz,
    lease_until        timestamptz,
    link_hash          bytea,                               -- of a bridge: keyed hash of the code of the latest send
    text_hash          bytea,                               -- of an SMS: HMAC of its latest text, finds it in the list
    state              text        not null default 'pending'
                    check (state in ('pending', 'claimed', 'unknown', 'accepted', 'rerouted', 'failed')),
    outcome            jsonb,                               -- the last answer, how often limits came, pending events
    settled_at         timestamptz,
    published          boolean     not null default false,  -- settled, and its events are published
    publishing_until   timestamptz,                         -- the process that publishes its events has it until then
    unknown_of         text        generated always as (case when state = 'unknown' then provider end) stored,
    primary key (org_id, message_id, attempt),
    check (case when state in ('pending', 'claimed') then unknown_since is null and settled_at is null
                when state = 'unknown' then unknown_since is not null and settled_at is null
                else settled_at is not null end)
) with (fillfactor = 50);
-- No index names a column that a claim writes, so that a claim changes the row alone: pending and claimed are told
-- apart by the row. In words of the indexes: pending or claimed, unknown_since and settled_at are null; not settled,
-- settled_at is null.
-- Claims go by lane: an account's templates, or everything else of it. A row with deferred_until is not in this index.
create index sends_ready on sends (channel, account, template, due_at)
    where settled_at is null and unknown_since is null and deferred_until is null;
create index sends_deferred on sends (channel, conversation_id, sequence, attempt)
    where settled_at is null and deferred_until is not null;
create index sends_deferred_until on sends (channel, deferred_until)
    where settled_at is null and deferred_until < 'infinity';
-- A statement that does not ask for expires_at must not use this one: without statistics it looked as good as
-- sends_ready, and all that waits was read and sorted.
create index sends_overdue on sends (channel, expires_at)
    where settled_at is null and unknown_since is null and expires_at is not null;
create index sends_unknown on sends (channel, unknown_of, due_at) where unknown_of is not null;
create index sends_unsettled on sends (conversation_id, sequence) where settled_at is null;
create index sends_unpublished on sends (channel, settled_at) where settled_at is not null and not published;

-- The rows of sends that one claim took. A row goes with the last of its sends that is claimed by it.
create table send_claims (
    claim_id    uuid        primary key,
    channel     text        not null check (channel in ('whatsapp', 'sms')),
    lease_until timestamptz not null,
    accounts    text[]      not null,                       -- of its sends, each once
    org_ids     text[]      not null,                       -- the keys of its sends: org_ids, message_ids, attempts
    message_ids uuid[]      not null,
    attempts    integer[]   not null
);
create index send_claims_by_lease on send_claims (channel, lease_until);

create table charges (
    org_id          text        not null,
    message_id      uuid        not null,
    attempt         integer     not null,
    conversation_id uuid        not null,
    channel         text        not null,
    provider        text        not null,
    category        text        not null,
    segments        integer,
    account         text,                                   -- as in provider_ids: phone_number_id, or the account sid
    sender          text,                                   -- of an SMS: the number that it came from (E.164)
    provider_ids    text[]      not null default '{}',      -- what was bought, two after a resend
    currency        text,                                   -- null: no price is known
    price           numeric(12, 6),                         -- of the whole message: the provider's, else the estimate
    estimated       boolean     not null default true,      -- the price is the estimate
    estimate        numeric(12, 6),                         -- by the rate card; null: none covers the day
    estimate_currency text,
    figures         jsonb       not null default '{}',      -- by provider's id: of an SMS what the provider said; of
                                                            -- WhatsApp which of its number's month the message was
    at              timestamptz not null,
    price_due_at    timestamptz,                            -- when its price is looked at again
    primary key (org_id, message_id, attempt)
);
-- As with sends_overdue: no statement that does not ask for at may use it.
create index charges_by_org on charges (org_id, at) where at is not null;
create index charges_price_due on charges (provider, account, price_due_at) where price_due_at is not null;
create index charges_to_look_at on charges (price_due_at) where channel = 'whatsapp' and price_due_at is not null;

-- How many free-form messages a business number has delivered in a month (UTC): the first thousand cost nothing.
create table service_months (
    org_id          text    not null,
    phone_number_id text    not null,
    month           date    not null,                       -- its first day
    delivered       integer not null,
    primary key (org_id, phone_number_id, month)
);
create index service_months_by_month on service_months (month);

-- The SMS segments that an organisation has bought or may still buy, by the day (UTC) on which they go. The router adds
-- to it when it decides on an SMS; an SMS that is not bought gives its segments back.
create table sms_days (
    org_id   text    not null,
    day      date    not null,
    segments integer not null,
    bridges  integer not null default 0,                    -- how many of the segments are bridges: one each
    primary key (org_id, day)
);
create index sms_days_by_day on sms_days (day);

-- When SMS answers of the last day were decided in a conversation, so that two machines that text each other stop.
create table sms_answers (
    conversation_id uuid          primary key,
    org_id          text          not null,
    decided_at      timestamptz[] not null,                 -- oldest first
    last_at         timestamptz   not null
);
create index sms_answers_by_age on sms_answers (last_at);


-- ── Sending: accounts that are paused ────────────────────────────────────────────────────────────────────────────────

-- Asked by every claim, shared by all replicas. A throttle ends by itself. An account that answers nothing ('silence'),
-- or that people must mend ('fault'), is tried out by one call at a time. account is a phone_number_id, or for SMS the
-- sender at an account of its provider: +447700900001@twilio:AC…; '*' stands for all senders of the account.
create table pauses (
    channel   text        not null check (channel in ('whatsapp', 'sms')),
    provider  text        not null,
    account   text        not null,
    scope     text        not null check (scope in ('all', 'templates')),
    kind      text        not null default 'throttle' check (kind in ('throttle', 'silence', 'fault')),
    reason    text        not null,
    proof     text        not null default 'answer'
              check (proof in ('answer', 'status')),        -- status: only the sent or delivered of a later call
    since     timestamptz not null default now(),
    until_at  timestamptz not null,
    tries     integer     not null default 1,               -- pauses in a row, for the back-off
    probed_at timestamptz,                                  -- the call that tries it out; null: none since it grew last
    logged_at   timestamptz,                                  -- when it was logged last
    primary key (channel, account, scope)
);
create index pauses_to_log on pauses (channel, coalesce(logged_at, '-infinity')) where kind = 'fault';
create index pauses_for_proof on pauses (provider) where kind = 'fault' and proof = 'status';

-- The latest call by which a late status ended a fault of an account. What is said afterwards of earlier calls pauses
-- it no more: Meta sends statuses in no order, and some twice.
create table account_proofs (
    provider  text        not null,
    account   text        not null,
    scope     text        not null check (scope in ('all', 'templates')),
    called_at timestamptz not null,
    primary key (provider, account, scope)
);

-- Calls in a row of an account that its provider did not answer. Five let it rest (pauses, kind silence).
create table unanswered_calls (
    channel    text        not null,
    account    text        not null,                        -- as in pauses
    org_id     text        not null,
    message_id uuid        not null,
    attempt    integer     not null,
    resends    integer     not null,                        -- 0: the first call of the send
    called_at  timestamptz not null,
    primary key (channel, account, org_id, message_id, attempt, resends)
);
create index unanswered_calls_by_age on unanswered_calls (called_at);


-- A country that an SMS provider has not enabled for an account. Nothing is sent there until then.
create table country_pauses (
    provider     text        not null,
    account      text        not null,                      -- the account sid, as in provider_ids
    country      text        not null,                      -- ISO 3166-1 alpha-2, as in the rate cards
    code         text        not null,                      -- the provider's
    since        timestamptz not null,
    until_at     timestamptz not null,
    primary key (provider, account, country)
);


-- ── Sending: evidence, and when silence proves something ─────────────────────────────────────────────────────────────

-- How far ingest has come on each partition of webhooks.v1. Silence proves something only while no record waits.
create table progress (
    topic        text        not null,
    partition    integer     not null,
    caught_up_at timestamptz not null,                      -- the last moment at which no record waited
    since        timestamptz not null,                      -- caught up without a gap since
    primary key (topic, partition)
);

-- One row for each start of an edge of ingest. All times of both tables are the database's: edges report ages.
create table webhook_edges (
    edge_id      uuid        primary key,
    serves_since timestamptz not null,
    known_until  timestamptz not null,                      -- every refusal of this edge up to then is stored
    left_at      timestamptz,                               -- when it ended in order; null: it serves or was killed
    last_post_at timestamptz                                -- the last signed POST that it took
);
create index webhook_edges_by_age on webhook_edges (known_until);

-- POSTs that Meta tries again. Refusals within a minute of each other are one row.
create table webhook_refusals (
    edge_id  uuid        not null,
    number   integer     not null,                          -- counts the rows of one edge
    kind     text        not null check (kind in ('refused', 'doubtful')), -- doubtful: its signature was not proved
    reason   text        not null,                          -- of the first refusal
    began_at timestamptz not null,
    ended_at timestamptz not null,                          -- the last refusal
    times    bigint      not null,
    primary key (edge_id, number)
);
create index webhook_refusals_by_age on webhook_refusals (kind, ended_at);

-- Second calls after lost answers are released in rounds, few at first, over all replicas of a sender.
create table resend_rounds (
    provider  text        primary key,
    opened_at timestamptz not null,
    size      integer     not null,
    left_over integer     not null,                         -- how many of the round may still be released
    late_at   timestamptz                                   -- when a first call was last found to have been accepted
);

create table resends (
    provider    text        not null,
    org_id      text        not null,
    message_id  uuid        not null,
    attempt     integer     not null,
    released_at timestamptz not null,
    late        boolean     not null default false,         -- the first call turned out to have been accepted
    primary key (org_id, message_id, attempt)
);
create index resends_by_age on resends (released_at);

-- SMS that a provider accepted and whose end is unknown: callbacks get lost. A row that is due is asked after at the
-- provider. It goes when its message has ended, at the latest when it is given up.
create table unconfirmed_sms (
    account     text        not null,                       -- the account sid, as in provider_ids
    provider_id text        not null,
    org_id      text        not null,
    message_id  uuid        not null,                       -- the message whose status it feeds (the bridge itself)
    send_id     uuid        not null,                       -- message_id of the row in sends
    attempt     integer     not null,
    accepted_at timestamptz not null,
    due_at      timestamptz not null,
    primary key (account, provider_id)
);
create index unconfirmed_sms_due_of_account on unconfirmed_sms (account, due_at);

-- When the message list of an SMS account could last not be read. What the list does not show proves nothing until it
-- has been readable for a while: after an outage it may be late.
create table sms_list_outages (
    account text        primary key,                        -- the account sid, as in provider_ids
    last_at timestamptz not null
);

-- Up to when the message list of a number at Twilio was read for customers' SMS whose callback no edge took. A number
-- that goes to another organisation of the account keeps its row: nothing is read twice.
create table missed_sms_looks (
    account    text        not null,                        -- the account sid, as in provider_ids
    number     text        not null,                        -- E.164, as the organisation writes it
    read_until timestamptz not null,
    due_at     timestamptz not null,                        -- the next look; whoever takes it sets it anew
    primary key (account, number)
);


-- ── What the portal may see ──────────────────────────────────────────────────────────────────────────────────────────

-- The portal works as the role transom_portal. It owns none of these tables, so the policies hold for it, and for no
-- owner. In three settings of its transaction it names what the browser brought: the host, the hashes of a code, the
-- hash of a session id. It sees a row only through one of these. A statement that forgets its condition therefore finds
-- the one conversation of the session and no other. transom migrate gives the rights (portal_rights.sql).
alter table orgs enable row level security;
alter table whatsapp_numbers enable row level security;
alter table customers enable row level security;
alter table customer_identities enable row level security;
alter table conversations enable row level security;
alter table conversation_aliases enable row level security;
alter table messages enable row level security;
alter table decisions enable row level security;
alter table parked_messages enable row level security;
alter table portal_links enable row level security;
alter table portal_sessions enable row level security;

create policy of_the_code on portal_links
    using (code_hash = any (nullif(current_setting('transom.portal_codes', true), '')::bytea[]))
    with check (code_hash = any (nullif(current_setting('transom.portal_codes', true), '')::bytea[]));

-- A session begins with a link that is not used yet, and is the link's in all that it is bound to.
create policy of_the_session on portal_sessions
    using (session_hash = any (nullif(current_setting('transom.portal_sessions', true), '')::bytea[]))
    with check (session_hash = any (nullif(current_setting('transom.portal_sessions', true), '')::bytea[]));
create policy from_a_link on portal_sessions as restrictive for insert
    with check (exists (select from portal_links l
                         where l.org_id = portal_sessions.org_id
                           and l.conversation_id = portal_sessions.conversation_id
                           and l.host = portal_sessions.host and l.phone = portal_sessions.phone
                           and l.used_at is null));

create policy of_the_session on messages for select
    using (conversation_id = any (array(select s.conversation_id from portal_sessions s))
           and org_id = any (array(select s.org_id from portal_sessions s)));
create policy of_the_session on parked_messages for select
    using (org_id = any (array(select s.org_id from portal_sessions s))
           and conversation_id = any (array(select s.conversation_id from portal_sessions s)));
create policy of_the_session on decisions for select
    using (org_id = any (array(select s.org_id from portal_sessions s))
           and conversation_id = any (array(select s.conversation_id from portal_sessions s)));

-- Before there is a session the link says whose page it is, and which phone must still be on file.
create policy of_link_or_session on conversations for select
    using (conversation_id = any (array(select s.conversation_id from portal_sessions s
                                        union all select l.conversation_id from portal_links l)));
create policy of_link_or_session on conversation_aliases for select
    using (alias = any (array(select s.conversation_id from portal_sessions s
                              union all select l.conversation_id from portal_links l)));
create policy of_the_conversation on customers
    using (customer_id = any (array(select c.customer_id from conversations c)));
create policy of_the_conversation on customer_identities for select
    using (customer_id = any (array(select c.customer_id from conversations c)));
create policy of_the_conversation on whatsapp_numbers for select
    using (org_id = any (array(select c.org_id from conversations c))
           or org_id = any (array(select o.org_id from orgs o)));
create policy of_the_host on orgs for select
    using (portal_host = current_setting('transom.portal_host', true)
           or org_id = any (array(select c.org_id from conversations c)));

-- With security_invoker a view shows what the reader may see, and not what the view's owner may.
create view portal_threads with (security_invoker) as
select s.session_hash, s.session_name, s.org_id, s.conversation_id, s.host, s.phone, s.seen_at, s.ends_at,
       s.posted_at, o.name as org_name, w.display_number,
       k.phone = s.phone or exists (select from customer_identities i
                                     where i.org_id = s.org_id and i.kind = 'phone' and i.value = s.phone
                                       and i.customer_id = c.customer_id) as on_file
  from portal_sessions s
  join conversations c on c.org_id = s.org_id and c.conversation_id = s.conversation_id
  join customers k on k.org_id = s.org_id and k.customer_id = c.customer_id
  join orgs o on o.org_id = s.org_id
  left join whatsapp_numbers w on w.org_id = s.org_id and w.phone_number_id = c.phone_number_id;

create view portal_messages with (security_invoker) as
select m.org_id, m.conversation_id, m.message_id, m.direction, m.channel, m.kind, m.content, m.actor,
       m.notification_type, m.sequence, m.status, m.reason, m.attempt, m.read_at, m.occurred_at
  from messages m;
