-- Meta's refusals of free-form sends (131047), by the time of the send: the first since a customer's message, and the newest. A refusal right after
-- a message may be Meta's own fault, so one alone does not close the window. refused_at closes it without doubt (another number of the customer).
alter table conversations add column first_refused_at timestamptz;
alter table conversations add column last_refused_at timestamptz;

-- What Meta says about a template, and when it said so: an older word never overwrites a newer one.
alter table templates add column status_at timestamptz;
alter table templates add column category_at timestamptz;
-- Meta wanted other parameters than the copy here says: others go on, and the next load reads it anew.
alter table templates add column stale_since timestamptz;
alter table templates add column stale_code text;
