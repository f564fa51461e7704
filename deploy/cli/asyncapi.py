"""``python -m deploy.cli.asyncapi`` writes ``docs/asyncapi/<service>.json``: what FastStream says of each topology."""

import sys
from pathlib import Path
from typing import Any

import orjson

from libs.common.kafka.topology import Topology, asyncapi
from services.ingest.topology import TOPOLOGY as INGEST
from services.router.topology import TOPOLOGY as ROUTER
from services.sms_bridge.topology import TOPOLOGY as SMS_BRIDGE
from services.whatsapp_sender.topology import TOPOLOGY as WHATSAPP_SENDER

TOPOLOGIES: tuple[Topology[Any], ...] = (INGEST, ROUTER, WHATSAPP_SENDER, SMS_BRIDGE)
FOLDER = Path(__file__).parents[2] / "docs/asyncapi"
_FORM = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


def documents() -> dict[str, bytes]:
    """Each service's AsyncAPI 3.0 document as it is committed, by file name."""
    return {f"{topology.service}.json": orjson.dumps(asyncapi(topology), option=_FORM) for topology in TOPOLOGIES}


def main() -> int:
    """Write the documents anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, document in documents().items():
        (FOLDER / name).write_bytes(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
