-- Who of the directory has a phone: where whoever has its line gives it up, it is theirs.
create index customers_by_listed_phone on customers (org_id, phone) where origin = 'directory' and phone is not null;
