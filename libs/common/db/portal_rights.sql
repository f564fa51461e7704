-- What the portal's role may do: the columns that its views show, and the few columns and rows that it writes.
-- Run by transom migrate each time; granting what is granted already changes nothing.
grant usage on schema public to transom_portal;
grant select on schema_migrations to transom_portal;
grant select on portal_threads, portal_messages to transom_portal;
grant select (org_id, name, portal_host, policy) on orgs to transom_portal;
grant select (phone_number_id, org_id, display_number) on whatsapp_numbers to transom_portal;
grant select (org_id, customer_id, phone, last_seen_at) on customers to transom_portal;
grant update (last_seen_at) on customers to transom_portal;
grant select (org_id, customer_id, kind, value) on customer_identities to transom_portal;
grant select (org_id, conversation_id, customer_id, phone_number_id) on conversations to transom_portal;
grant select on conversation_aliases to transom_portal;
grant select (org_id, conversation_id, message_id, direction, channel, kind, content, actor, notification_type,
              sequence, status, reason, attempt, read_at, occurred_at)
    on messages to transom_portal;
grant select (org_id, intent_id, attempt, conversation_id, route, channel) on decisions to transom_portal;
grant select (org_id, conversation_id, message_id, state) on parked_messages to transom_portal;
grant select, update (used_at) on portal_links to transom_portal;
-- No session moves to another conversation, phone or end. An earlier release granted the whole row.
revoke update on portal_sessions from transom_portal;
grant select, insert, delete, update (seen_at, posted_at, minute_began, minute_count, day_began, day_count)
    on portal_sessions to transom_portal;
