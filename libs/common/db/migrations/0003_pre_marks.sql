-- What a provider said about an address, on either channel: the next intent does not buy the same failure. One line may be known under several
-- spellings: each is a row of its own, so that any spelling finds it by the key. What is over (until) counts no more and is deleted in time.
create table address_marks (
    org_id  text not null,
    channel text not null check (channel in ('whatsapp', 'sms')),
    address text not null,                          -- E.164, or a BSUID; of WhatsApp a wa_id stands here with its plus
    reason  text not null check (reason in ('unreachable', 'no_phone', 'sms_opted_out')),
    code    text,                                   -- the provider's, where it gave one
    source  text not null check (source in ('answer', 'status', 'list', 'before')),
    at      timestamptz not null,                   -- when it was said
    until   timestamptz not null,
    primary key (org_id, channel, address, reason)
);
create index address_marks_over on address_marks (until);

-- customers.phone_dead said the same until now, without a time; it is read no more, and what older code still writes there is not missed.
insert into address_marks (org_id, channel, address, reason, source, at, until)
select org_id, 'sms', phone, 'no_phone', 'before', now(), now() + interval '90 days'
  from customers
 where phone_dead = phone
on conflict do nothing;

-- The number that an opt-out was told of by the SMS provider: it holds for that number. Null: it holds for the customer, whatever the number.
alter table consents add column address text;
