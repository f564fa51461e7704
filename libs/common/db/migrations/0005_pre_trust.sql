-- What an organisation may claim, what a customer's word on consent is, and what Meta asked for a message.

-- Meta's ids become part of addresses at the Graph API, so they are digits. A number that was removed belongs to nobody (org_id null) and can be
-- claimed again; its row stays, because conversations point at it.
alter table whatsapp_numbers
    alter column org_id drop not null,
    add constraint whatsapp_numbers_digits check (phone_number_id ~ '^[0-9]{5,20}$' and waba_id ~ '^[0-9]{5,20}$') not valid;
alter table whatsapp_numbers validate constraint whatsapp_numbers_digits;

-- Organisations may share a WABA, and each has its own templates there. `transom load` of the release before cannot store templates from here on; no
-- service of it writes any.
alter table templates
    drop constraint templates_pkey,
    add primary key (org_id, waba_id, name, language),
    add constraint templates_digits check (waba_id ~ '^[0-9]{5,20}$') not valid;
alter table templates validate constraint templates_digits;

-- An SMS number belongs to one organisation: texts to it are that organisation's, and nobody else sends from it.
create unique index orgs_sms_number_once on orgs (sms_number);

-- Who changed a consent where it was no directory: 'whatsapp' or 'sms', and how. `lifts` is what a START typed by the customer gives back.
alter table consents
    add column source text,
    add column cause  text,
    add column lifts  boolean,
    add column told   boolean not null default true; -- false: what a customer said, and no consent.changed.v1 tells of it yet
create index consents_untold on consents (at) where not told;

-- Meta tells what a message costs in its statuses and never again. Its words are kept as they are: new ones appear without notice.
create table message_pricing (
    org_id      text not null,
    message_id  uuid not null,
    provider_id text not null,                      -- wamid
    attempt     integer not null,
    type        text,                               -- regular, free_customer_service, …
    category    text,                               -- service, utility, marketing, …
    model       text,                               -- PMP, CBP
    billable    boolean,
    more        jsonb,                              -- what else the object said
    at          timestamptz not null,               -- of the status that said it, the provider's clock
    primary key (org_id, message_id, provider_id)
);
