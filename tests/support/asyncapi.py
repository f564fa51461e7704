"""``python -m tests.support.asyncapi`` writes ``docs/asyncapi``: what FastStream says of each service."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI

from libs.common.kafka.topology import Topology, declare_publishers, declare_subscriber
from services.inbox.topology import TOPOLOGY as INBOX
from services.ingest.topology import TOPOLOGY as INGEST
from services.portal.topology import TOPOLOGY as PORTAL
from services.router.topology import TOPOLOGY as ROUTER
from services.sms_bridge.topology import TOPOLOGY as SMS_BRIDGE
from services.whatsapp_sender.topology import TOPOLOGY as WHATSAPP_SENDER

TOPOLOGIES: tuple[Topology[Any], ...] = (INGEST, ROUTER, WHATSAPP_SENDER, SMS_BRIDGE, PORTAL, INBOX)
FOLDER = Path(__file__).parents[2] / "docs/asyncapi"
_FORM = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


def documents() -> dict[str, bytes]:
    """Each service's AsyncAPI 3.0 document as it is committed, by file name."""
    return {f"{topology.service}.json": orjson.dumps(asyncapi(topology), option=_FORM) for topology in TOPOLOGIES}


def asyncapi(topology: Topology[Any]) -> dict[str, Any]:
    """The AsyncAPI 3.0 document that FastStream makes of a topology. Topic names are without the configured prefix."""
    broker = KafkaBroker("localhost:9092", apply_types=False, description="TRANSOM_KAFKA_BOOTSTRAP")
    for subscriber in topology.subscribers:
        declare_subscriber(
            broker,
            subscriber.topic.name,
            _never_called,
            subscriber.event,
            title=subscriber.topic.name,
        )
    declare_publishers(broker, topology.publishers, str)
    document = AsyncAPI(
        broker,
        title=f"Transom {topology.service}",
        version=version("transom"),
        description=topology.summary,
        license={"name": "Apache-2.0"},
        schema_version="3.0.0",
    )
    return dict(document.to_specification().to_jsonable())


async def _never_called(_batch: Any) -> None:
    """The handler of a broker that only makes a document, and is never started."""


def main() -> int:
    """Write the documents anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, document in documents().items():
        (FOLDER / name).write_bytes(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
