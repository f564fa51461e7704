-- Who had a number when. customer_identities holds who has an identity now, former_identities who had it before: two tables, because the code of
-- the release before goes on asking the first one, and because the question of every message is then one look at a small index.

alter table customer_identities
    add column since  timestamptz not null default '1970-01-01T00:00:00Z', -- the provider's clock; of what was known before this column: for ever
    add column source text not null default 'message'
               check (source in ('message', 'status', 'answer', 'notice', 'directory', 'shared', 'intent', 'stale')),
    add column line   text,                         -- of a wa_id and a bsuid: the canonical phone number (E.164) that it was told with
    add column bsuid  text,                         -- of a phone: by which BSUID WhatsApp knows whoever has it; another one is another person
    add column seen   timestamptz;                  -- of a phone: since when Meta itself says so; null: only the directory or an intent does

create table former_identities (
    former_id   bigint generated always as identity primary key,
    org_id      text not null,
    kind        text not null check (kind in ('wa_id', 'bsuid', 'phone')),
    value       text not null,
    customer_id uuid not null references customers,
    since       timestamptz not null,
    until       timestamptz not null,               -- not theirs any more from then on
    source      text not null,
    line        text,
    bsuid       text,
    seen        timestamptz,
    ended_by    text not null
);
create index former_identities_by_value on former_identities (org_id, kind, value, until);
create index former_identities_by_customer on former_identities (customer_id);

-- Every notice of a changed number or BSUID, also of people whom nobody knew when it came: whoever turns out later to have had the old number had it
-- until then. Webhooks come for seven days, so a notice that met nobody is kept for eight.
create table identity_notices (
    org_id      text not null,
    old_line    text not null,                      -- canonical phone number (E.164); empty where the notice names none
    old_bsuid   text not null,
    new_line    text not null,
    new_bsuid   text not null,
    new_number  text not null,                      -- the new line as Meta spelled it
    at          timestamptz not null,               -- the provider's clock
    received_at timestamptz not null,
    primary key (org_id, at, old_line, old_bsuid, new_line, new_bsuid)
);
create index identity_notices_by_old_line on identity_notices (org_id, old_line) where old_line <> '';
create index identity_notices_by_old_bsuid on identity_notices (org_id, old_bsuid) where old_bsuid <> '';
create index identity_notices_by_new_line on identity_notices (org_id, new_line) where new_line <> '';
create index identity_notices_by_new_bsuid on identity_notices (org_id, new_bsuid) where new_bsuid <> '';
create index identity_notices_by_age on identity_notices (received_at);

-- The phone that the directory told last. A phone that it merely repeats is no news: the customer may have given it up meanwhile.
alter table customers add column told_phone text;
update customers set told_phone = phone where upserted_at is not null and phone is not null;

-- By which ids a customer's message came. Where a notice comes late, what was written after it from a number given up is somebody else's.
alter table messages
    add column from_wa_id text,
    add column from_bsuid text;
