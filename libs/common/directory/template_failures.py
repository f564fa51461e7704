"""What failures of sends say about templates, kept with our copies of them, loudly: by answers and by late statuses alike."""

from collections.abc import Iterable
from datetime import datetime

from libs.common.db.pool import Connection
from libs.common.directory import templates
from libs.common.logging import get_logger

log = get_logger()

Told = tuple[templates.Used, str, datetime]
"""A template, the word about it (its status, or the code of the failure), and since when it holds."""


async def keep_told(db: Connection, gone: Iterable[Told], stale: Iterable[Told]) -> None:
    """``gone`` cannot be used any more, ``stale`` do not suit Meta: one line for each that was in order before."""
    for template in await templates.gone(db, gone):
        log.warning("template.gone", org_id=template.org_id, template=template.name, language=template.language)
    for template in await templates.stale(db, stale):
        log.warning("template.stale", org_id=template.org_id, template=template.name, language=template.language)
