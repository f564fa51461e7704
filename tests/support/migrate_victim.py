"""``transom migrate`` of another folder as a process of its own, to be killed: ``victim.py DSN FOLDER``.

Prints the progress of the migration.
"""

import asyncio
import sys
from pathlib import Path

from libs.common.db.migrate import migrate


def report(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- for the test


if __name__ == "__main__":
    asyncio.run(migrate(sys.argv[1], Path(sys.argv[2]), report=report))
