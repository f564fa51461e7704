"""The topics and events as an AsyncAPI 3.0 document, made from the declarations themselves. Pure.

``python -m libs.common.events.asyncapi`` writes it to standard output; ``docs/asyncapi.json`` holds it, and a test compares the two.
"""

import sys
from importlib.metadata import version
from typing import Any

import orjson

from libs.common.events.base import Event
from libs.common.events.directory import (
    ConsentChanged,
    CustomerUpserted,
    NumberRemoved,
    NumberUpserted,
    OrgCredit,
    OrgUpserted,
)
from libs.common.events.inbound import InboundMessage, MetaWebhook, TwilioStatusWebhook
from libs.common.events.intents import Intent
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision, OutboundRefused, SmsCommand, WhatsappCommand
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    DIRECTORY_CHANGES,
    INBOUND_MESSAGES,
    OUTBOUND_DECISIONS,
    OUTBOUND_INTENTS,
    OUTBOUND_REFUSED,
    OUTBOUND_SMS,
    OUTBOUND_WHATSAPP,
    WEBHOOKS,
    Topic,
)

EVENTS_OF: dict[Topic, tuple[type[Event], ...]] = {
    WEBHOOKS: (MetaWebhook, TwilioStatusWebhook),
    INBOUND_MESSAGES: (InboundMessage,),
    OUTBOUND_INTENTS: (Intent,),
    OUTBOUND_DECISIONS: (OutboundDecision,),
    OUTBOUND_WHATSAPP: (WhatsappCommand,),
    OUTBOUND_SMS: (SmsCommand,),
    OUTBOUND_REFUSED: (OutboundRefused,),
    DELIVERY_UPDATES: (DeliveryUpdate,),
    DIRECTORY_CHANGES: (OrgUpserted, OrgCredit, NumberUpserted, NumberRemoved, CustomerUpserted, ConsentChanged),
}
_SCHEMAS = "#/components/schemas/{model}"


def document() -> dict[str, Any]:
    """The whole document. Topic names are without the configured prefix."""
    schemas: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    for topic, events in EVENTS_OF.items():
        for event in events:
            schema = event.model_json_schema(ref_template=_SCHEMAS)
            schemas |= schema.pop("$defs", {})
            messages[event.TYPE] = {
                "name": event.TYPE,
                "contentType": "application/json",
                "summary": (event.__doc__ or "").strip().split("\n")[0],
                "payload": schema,
            }
        channels[topic.name] = {
            "address": topic.name,
            "bindings": {"kafka": {"partitions": topic.partitions}},
            "messages": {event.TYPE: {"$ref": f"#/components/messages/{event.TYPE}"} for event in events},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Transom",
            "version": version("transom"),
            "description": "Topics and events. Values are UTF-8 JSON, times RFC 3339 UTC; within a version fields are only added.",
            "license": {"name": "Apache-2.0"},
        },
        "channels": channels,
        "components": {"messages": messages, "schemas": schemas},
    }


def encode() -> bytes:
    """The document as it is committed."""
    return orjson.dumps(document(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    sys.stdout.buffer.write(encode())
