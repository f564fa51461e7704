-- SMS that a provider took and of which it may tell nothing more: callbacks get lost, and some never come. Whoever is still pending when its row is
-- due is asked after at the provider. A row goes when its message has moved, at the latest when it is given up.
create table unheard_sms (
    account     text not null,                      -- the account sid, as in provider_ids
    provider_id text not null,
    org_id      text not null,
    message_id  uuid not null,                      -- the message whose status it feeds (for a bridge: the bridge's own id)
    send_id     uuid not null,                      -- message_id of the row in sends
    attempt     integer not null,
    accepted_at timestamptz not null,
    due_at      timestamptz not null,
    primary key (account, provider_id)
);
create index unheard_sms_due on unheard_sms (due_at);
