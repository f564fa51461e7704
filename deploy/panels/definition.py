"""The panels, in the order in which they are shown.

Every event, field and word in here is one of ``libs/common/log_schema.json``, and every metric one of
``libs/common/metrics.py``: a test holds it. No I/O, no clock.
"""

from deploy.panels.panel import DAY_SECONDS, Followed, Highest, Panel, Take, Total, Until

_FRESH = {"outcome": ("known",)}


def _of(*events: str) -> dict[str, tuple[str, ...]]:
    return {"event": events}


_RECEIVED = Take(_of("message.received"), unless=_FRESH)
_BRIDGE_STATUS = {"event": ("status.applied",), "route": ("bridge",)}

PANELS = (
    Panel(
        "decisions",
        "Decisions",
        "decisions",
        "Which way do messages go, and why?",
        Total((Take(_of("intent.decided"), unless=_FRESH),), ("route", "reason")),
        "sum by (route, reason) (increase(transom_decisions_total[$__range]))",
    ),
    Panel(
        "windows-opened",
        "Windows opened",
        "windows",
        "How many conversations did customers bring back?",
        Total((Take(_of("window.opened"), unless={"outcome": ("moved",)}),), ("channel",)),
    ),
    Panel(
        "windows",
        "Windows",
        "windows",
        "How many windows are open, and how many of them close within the hour unless the customer writes?",
        Until(
            (Take(_of("window.opened", "message.received") | {"channel": ("whatsapp",)}, having=("closes_at",)),),
            "conversation_id",
            "closes_at",
            ("open", "closing within the hour"),
        ),
    ),
    Panel(
        "messages",
        "Messages from customers",
        "messages",
        "Do customers' messages arrive, and where?",
        Total((_RECEIVED,), ("channel",)),
    ),
    Panel(
        "bridges",
        "Bridges",
        "bridges",
        "What became of the SMS that bring customers back?",
        Total(
            (
                Take(_of("bridge.sent"), label="sent"),
                Take(_BRIDGE_STATUS | {"status": ("delivered",)}, unless=_FRESH, label="delivered"),
                Take(_of("link.redeemed"), label="link opened"),
                Take(_BRIDGE_STATUS | {"status": ("failed",)}, unless=_FRESH, label="failed"),
                Take({"event": ("send.failed",), "route": ("bridge",)}, unless=_FRESH, label="not sent"),
            ),
            ("label",),
        ),
    ),
    Panel(
        "bridge-answers",
        "Answers to bridges",
        "bridges",
        "Did customers write within a day of a bridge, and where?",
        Followed(
            Take(_of("bridge.sent")), _RECEIVED, "conversation_id", "channel", DAY_SECONDS, ("expired", "no answer yet")
        ),
    ),
    Panel(
        "delivery",
        "Delivery",
        "messages",
        "How far do messages get on each channel, as the providers say?",
        Total(
            (
                Take(_of("send.accepted"), label="accepted"),
                *(
                    Take({"event": ("status.applied",), "status": (rung,)}, unless=_FRESH, label=rung)
                    for rung in ("sent", "delivered", "read")
                ),
            ),
            ("channel", "label"),
        ),
        "sum by (channel, label) (label_replace("
        'increase(transom_statuses_total{status!="failed"}[$__range]), "label", "$1", "status", "(.+)")'
        " or label_replace("
        'increase(transom_sends_total{outcome="accepted"}[$__range]), "label", "$1", "outcome", "(.+)"))',
    ),
    Panel(
        "failures",
        "Failed messages",
        "messages",
        "Why do messages fail for good?",
        Total(
            (
                Take(_of("send.failed"), unless=_FRESH),
                Take({"event": ("status.applied",), "status": ("failed",)}, unless=_FRESH),
            ),
            ("channel", "reason"),
        ),
    ),
    Panel(
        "codes",
        "Provider codes",
        "sends",
        "With which codes do Meta and the SMS providers refuse an attempt, and fail a message?",
        Total(
            (
                Take(
                    _of("send.refused"),
                    unless={"outcome": ("known", "ignore", "repeat", "end")},
                    having=("provider_code",),
                    label="refused",
                ),
                Take(_of("send.failed", "status.applied"), unless=_FRESH, having=("provider_code",), label="failed"),
            ),
            ("provider_code", "label"),
        ),
    ),
    Panel(
        "unknown",
        "Unknown outcomes",
        "sends",
        "How often did a provider not say whether it took a message?",
        Total((Take(_of("send.unknown")),), ("channel",)),
        'sum by (channel) (increase(transom_sends_total{outcome="unknown"}[$__range]))',
    ),
    Panel(
        "oldest",
        "Oldest waiting send",
        "ms",
        "How long has the oldest send waited that has no outcome?",
        Highest((Take(_of("sends.waiting")),), ("channel",), "oldest_ms"),
        "1000 * max by (channel) (transom_sends_oldest_seconds)",
        of_organisations=False,
    ),
    Panel(
        "waiting",
        "Waiting sends",
        "sends",
        "How many sends have no outcome yet?",
        Highest((Take(_of("sends.waiting")),), ("channel",), "records"),
        "max by (channel) (transom_sends_waiting)",
        of_organisations=False,
    ),
    Panel(
        "lag",
        "Lag",
        "records",
        "How far is the slowest replica behind the end of its partitions of a topic?",
        Highest((Take(_of("consumer.lag")),), ("topic",), "records"),
        "max by (topic) (sum by (topic, instance) (transom_kafka_lag_records))",
        of_organisations=False,
    ),
    Panel(
        "dead-letters",
        "Dead letters",
        "records",
        "Which records could not be handled, and why?",
        Total((Take(_of("record.dead_lettered")),), ("topic", "reason"), "records"),
        "sum by (topic, reason) (increase(transom_kafka_records_dead_lettered_total[$__range]))",
        of_organisations=False,
    ),
    Panel(
        "spend",
        "Spend",
        "money",
        "What do messages cost? An estimate is replaced by the price once it is known.",
        Total((Take(_of("spend.changed")),), ("channel", "category", "currency"), "amount"),
    ),
    Panel(
        "webhooks",
        "Webhooks taken",
        "webhooks",
        "Do the providers reach us?",
        Total((Take(_of("webhook.received"), unless={"outcome": ("handshake", "ignored")}),), ("source",)),
        'sum by (source) (increase(transom_webhooks_total{status="200"}[$__range]))',
        of_organisations=False,
    ),
    Panel(
        "refusals",
        "Refused requests",
        "webhooks",
        "Which webhooks, tokens and connections do we refuse, and why?",
        Total(
            (Take(_of("webhook.rejected", "http.refused", "token.refused")),), ("event", "source", "reason"), "times"
        ),
        of_organisations=False,
    ),
    Panel(
        "away",
        "Servers away",
        "lines",
        "Which server did a service miss?",
        Total((Take(_of("dependency.away", "breaker.opened")),), ("service", "dependency")),
        of_organisations=False,
    ),
    Panel(
        "errors",
        "Errors",
        "lines",
        "What asks for people?",
        Total((Take({"level": ("error",)}),), ("service", "event")),
    ),
)
