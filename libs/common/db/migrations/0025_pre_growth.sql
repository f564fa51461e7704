-- outside a transaction
-- Accounts at rest are said to be so some at a time, those first that were not said to be for longest, however many there are.
create index concurrently if not exists pauses_to_say on pauses (provider, coalesce(said_at, '-infinity')) where kind = 'fault';
-- Whether any account waits for a status that proves it well is asked with every batch of statuses.
create index concurrently if not exists pauses_for_proof on pauses (provider) where kind = 'fault' and proof = 'status';
-- What is asked after is asked of one account at a time; what waits for another one is not read.
create index concurrently if not exists unheard_sms_due_of_account on unheard_sms (account, due_at);
drop index concurrently if exists unheard_sms_due;
