-- A status without callback data is kept for an hour at most: whoever forgets them finds them by age.
create index early_statuses_nameless on early_statuses (received_at) where callback is null;
