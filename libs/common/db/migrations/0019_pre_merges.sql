-- Conversations that became part of another one, and whose rows are still being moved there, a slice at a time. Whom a conversation belongs to, its
-- window, slot and links, and the alias are settled in the transaction that writes the row. It stays for some time after the last slice:
-- whoever read the old conversation before the merge may write under it for a moment.
create table conversation_merges (
    loser    uuid primary key,                      -- the conversation that is no more
    org_id   text not null,
    winner   uuid not null,                         -- where its rows go; another one when that one is merged away as well
    began_at timestamptz not null default now(),
    since    bigint not null,                       -- of the message sequence when it began
    below    bigint not null default 9223372036854775807, -- messages from this sequence on are moved, the newest first
    moved    bigint not null default 0,             -- messages moved so far
    looks    integer not null default 0,            -- how often it was looked, after the last slice, whether anything came late
    due_at   timestamptz not null default now()     -- when the next slice or look is due
);
create index conversation_merges_of_winner on conversation_merges (winner);
create index conversation_merges_due on conversation_merges (due_at);
