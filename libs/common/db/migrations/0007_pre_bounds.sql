-- What is kept for a while is found by its age, so that it can be forgotten.
create index portal_links_by_expiry on portal_links (expires_at);
