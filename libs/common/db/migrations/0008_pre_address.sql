-- When an address was confirmed last. Nothing is read into a missing time: what has none gives way to what has one.
alter table conversations
    add column wa_id_at timestamptz,                -- the customer's newest message or call that named wa_id; the provider's clock
    add column bsuid_at timestamptz;                -- and bsuid
alter table customers add column phone_at timestamptz; -- since when the directory tells this phone; a repetition confirms nothing

-- A group has a thread, but no customer and no window: it is no conversation, and nothing can be sent to it.
create table group_threads (
    org_id          text not null,
    phone_number_id text not null references whatsapp_numbers,
    group_id        text not null,                  -- Meta's
    conversation_id uuid not null default uuidv7(), -- of its messages
    created_at      timestamptz not null default now(),
    primary key (org_id, phone_number_id, group_id)
);
create unique index group_threads_by_conversation on group_threads (org_id, conversation_id);
