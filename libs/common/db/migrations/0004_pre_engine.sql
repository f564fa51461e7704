-- Claims go by account: what may rest by itself is a lane (an account's templates, and everything else of it), and a lane is looked at by its index.
-- A row that was seen behind an older one of its conversation is out of it until that moves (behind_until): a claim does not look at it again.
alter table sends
    add column template     boolean not null default false, -- a pause of scope 'templates' holds for it
    add column behind_until timestamptz,                    -- pending, behind an older row: until that moves, or this; 'infinity' where only it counts
    add column telling_until timestamptz;                   -- whoever took this row to tell it has it alone until then

update sends set template = true where state = 'pending' and command ->> 'route' = 'template';

create index sends_ready on sends (provider, account, template, due_at) where state = 'pending' and behind_until is null;
create index sends_behind on sends (provider, conversation_id, sequence, attempt) where state = 'pending' and behind_until is not null;
create index sends_behind_until on sends (provider, behind_until) where state = 'pending' and behind_until is not null;

-- Nothing was released that reads it, and every row would be entered there for nobody.
drop index sends_due;

-- Whom an account's pause is due to. A throttle ends by itself; an account that answers nothing, or that people must mend, is tried out by one
-- call at a time. proof 'status': an accepted answer proves nothing, only the sent or delivered of a message that was called since.
-- account '*' stands for all accounts of the provider.
alter table pauses
    add column kind      text not null default 'throttle' check (kind in ('throttle', 'silence', 'fault')),
    add column proof     text not null default 'answer' check (proof in ('answer', 'status')),
    add column since     timestamptz not null default now(),
    add column probed_at timestamptz,                       -- the call that tries it out; null: none since it grew last
    add column said_at   timestamptz;                       -- when its line was logged last

update pauses set kind = 'silence' where reason = 'unanswered';
