-- What must not be forgotten where Kafka lost it: the router follows it up, and ends what cannot go on.

-- Refusals that the router has not decided on yet: kept by whoever refuses, in the transaction that refuses, and taken away once the next attempt is
-- told. Empty but for what is under way.
create table refusals (
    org_id      text not null,
    intent_id   uuid not null,
    attempt     integer not null,                   -- the one that was refused
    event       jsonb not null,                     -- outbound.refused.v1
    waits_since timestamptz not null,               -- since then, or since the router looked last
    primary key (org_id, intent_id, attempt)
);
create index refusals_waiting on refusals (waits_since);

-- Decisions that gave a command and of which nothing followed in time: no send, or a send of which nothing was heard. Each is looked at when it is due.
create table loose_ends (
    org_id     text not null,
    message_id uuid not null,
    attempt    integer not null,
    deadline   timestamptz not null,                -- without a send until then: it ends
    due_at     timestamptz not null,
    tries      integer not null default 0,          -- looks so far
    primary key (org_id, message_id, attempt)
);
create index loose_ends_due on loose_ends (due_at);

-- How far decisions were looked through for loose ends, by what was looked for. Each is looked at once, so that what is finished costs nothing more.
create table looked_through (
    pass text primary key,
    upto timestamptz not null                       -- decided_at
);
insert into looked_through (pass, upto) values ('unsent', '1970-01-01T00:00:00Z'), ('unheard', '1970-01-01T00:00:00Z');

-- Records in a dead-letter topic that name an intent: for whoever asks what became of it. Kept as long as the letters are.
create table parked_records (
    topic           text not null,
    partition       integer not null,
    record_offset   bigint not null,
    org_id          text not null,
    message_id      uuid not null,                  -- the intent
    reason          text not null,
    event_type      text,
    parked_at       timestamptz not null,
    primary key (topic, partition, record_offset)
);
create index parked_records_of_message on parked_records (org_id, message_id);
create index parked_records_by_age on parked_records (parked_at);
