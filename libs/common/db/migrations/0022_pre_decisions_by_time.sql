-- outside a transaction
-- Decisions are looked through in the order in which they were taken, once each: for commands that never became a send.
create index concurrently if not exists decisions_by_time on decisions (decided_at) where command is not null;
