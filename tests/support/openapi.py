"""``python -m tests.support.openapi`` writes ``docs/openapi/inbox.json``: what FastAPI says of the inbox's API."""

import sys
from pathlib import Path

import orjson

from services.inbox.api.app import document

FILE = Path(__file__).parents[2] / "docs/openapi/inbox.json"
_FORM = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


def written() -> bytes:
    """The document as it is committed."""
    return orjson.dumps(document(), option=_FORM)


def main() -> int:
    """Write the document anew."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(written())
    return 0


if __name__ == "__main__":
    sys.exit(main())
