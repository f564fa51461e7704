-- When the message list of an SMS provider's account could last not be read. What such a list does not show proves nothing
-- until it has been readable for a while again: after an outage it may be late.
create table sms_list_outages (
    account text primary key,               -- the account sid, as in provider_ids
    last_at timestamptz not null
);
