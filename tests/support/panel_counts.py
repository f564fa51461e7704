"""What the tables say to the question of each panel, for a whole database.

A panel without an entry has no counterpart in tables: it tells of lines alone (errors, refused requests, servers away),
of what is measured and not kept (lag), or of a moment that is over (unknown outcomes). Nor is it kept with which codes
attempts were refused that were decided again (``NOT_KEPT``).
"""

from collections.abc import Mapping

FAILED = (
    "d.intent_id = m.message_id and d.attempt = m.attempt and m.failed_at is not null"
    " and (d.route in ('session', 'template') or d.route = 'bridge' and m.reason <> 'window_expired_bridge_sent')"
)
"""Messages that failed after they were to be sent. A message that a bridge stands in for has the bridge's fate."""

NOT_KEPT = {"refused"}

COUNTS: Mapping[str, str] = {
    "decisions": "select route, reason, count(*) from decisions group by 1, 2",
    "windows-opened": (
        "select 'whatsapp', count(*) from conversations"
        " where last_customer_at + interval '24 hours' > created_at having count(*) > 0"
    ),
    "windows": (
        "select 'open', count(*) from conversations where last_customer_at + interval '24 hours' > $1"
        " having count(*) > 0 union all "
        "select 'closing within the hour', count(*) from conversations"
        " where last_customer_at + interval '24 hours' > $1 and last_customer_at + interval '23 hours' <= $1"
        " having count(*) > 0"
    ),
    "messages": "select channel, count(*) from messages where direction = 'in' group by 1",
    "bridges": (
        "select what, count(*) from messages m cross join lateral (values ('sent', m.sequence is not null),"
        " ('delivered', m.delivered_at is not null), ('failed', m.failed_at is not null)) v (what, so)"
        " where m.notification_type = 'bridge' and v.so group by 1 union all "
        "select 'link opened', count(*) from portal_links where used_at is not null having count(*) > 0 union all "
        "select 'not sent', count(*) from sends s join decisions d on d.org_id = s.org_id"
        " and d.intent_id = s.message_id and d.attempt = s.attempt"
        " where d.route = 'bridge' and s.state = 'failed' having count(*) > 0"
    ),
    "bridge-answers": (
        "select coalesce(a.channel, 'no answer yet'), count(*) from messages b left join lateral ("
        " select m.channel from messages m where m.conversation_id = b.conversation_id and m.direction = 'in'"
        " and m.received_at > b.received_at order by m.received_at limit 1) a on true"
        " where b.notification_type = 'bridge' group by 1"
    ),
    "delivery": (
        "select channel, 'accepted', count(*) from sends where state = 'accepted' group by 1 union all "
        "select case when v.what = 'read' then coalesce(m.read_channel, m.channel) else m.channel end, what, count(*)"
        " from messages m cross join lateral (values ('sent', m.sent_at), ('delivered', m.delivered_at),"
        " ('read', m.read_at)) v (what, at)"
        " where m.direction = 'out' and v.at is not null and (m.channel <> 'portal' or what = 'read') group by 1, 2"
    ),
    "failures": (
        "select d.channel, m.reason, count(*) from messages m join decisions d using (org_id)"
        f" where {FAILED} group by 1, 2"
    ),
    "codes": ("select provider_code, 'failed', count(*) from messages where provider_code is not null group by 1"),
    "waiting": (
        "select c, count(s.org_id) from unnest(array['whatsapp', 'sms']) c"
        " left join sends s on s.channel = c and s.settled_at is null group by 1"
    ),
    "spend": ("select channel, category, currency, sum(price) from charges where price <> 0 group by 1, 2, 3"),
}
"""By panel: words and a value; ``$1`` is the time that is asked about."""
