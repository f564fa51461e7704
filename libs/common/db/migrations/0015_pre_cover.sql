-- What the edge knows of the webhooks that it took and refused: silence proves something only while statuses could have come.
-- All instants are the database's: edges tell ages, and what they know is dated here.

-- One row for each start of an edge.
create table webhook_edges (
    edge_id      uuid primary key,
    serves_since timestamptz not null,
    known_until  timestamptz not null,              -- every refusal of its up to then is stored
    left_at      timestamptz,                       -- it ended in order then; null while it serves, and when it was killed
    last_post_at timestamptz                        -- the last signed POST that it took; a quiet night is no outage
);
create index webhook_edges_by_age on webhook_edges (known_until);

-- POSTs that Meta tries again, as stretches of time: refusals within a minute of each other are one row.
create table webhook_refusals (
    edge_id  uuid not null,
    number   integer not null,                      -- of the stretch, within its edge
    kind     text not null check (kind in ('refused', 'doubtful')), -- doubtful: anybody may have sent it, its signature was not proved
    reason   text not null,                         -- of the first one
    began_at timestamptz not null,
    ended_at timestamptz not null,                  -- the last one
    times    bigint not null,
    primary key (edge_id, number)
);
create index webhook_refusals_by_age on webhook_refusals (kind, ended_at);

-- Second calls after lost answers are released in rounds, few at first, for all replicas of a sender.
create table resend_rounds (
    provider  text primary key check (provider in ('meta', 'sms')),
    opened_at timestamptz not null,
    size      integer not null,
    left_over integer not null,                     -- how many of the round may still be released
    late_at   timestamptz                           -- when a call was last found to have been accepted after all
);

-- Which sends were released to be made once more, and whether the first call turned out to have been accepted.
create table resends (
    provider    text not null check (provider in ('meta', 'sms')),
    org_id      text not null,
    message_id  uuid not null,
    attempt     integer not null,
    released_at timestamptz not null,
    late        boolean not null default false,
    primary key (org_id, message_id, attempt)
);
create index resends_by_age on resends (provider, released_at);
