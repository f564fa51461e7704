-- How often it was settled anew who is behind a conversation. What was found before such a moment is looked for again, not stored.
alter table conversations add column settled bigint not null default 0;
