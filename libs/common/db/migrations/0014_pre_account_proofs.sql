-- The latest call by which a late status proved an account well that had rested for a fault: what is told afterwards of
-- earlier calls lets it rest no more. Meta tells statuses in no order, and some twice.
create table account_proofs (
    provider  text not null check (provider in ('meta', 'sms')),
    account   text not null,
    scope     text not null check (scope in ('all', 'templates')),
    called_at timestamptz not null,
    primary key (provider, account, scope)
);
