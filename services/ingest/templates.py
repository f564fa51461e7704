"""What Meta tells about templates meets our copies of them. Templates that are not known here are nobody's."""

from collections.abc import Sequence

from libs.common.db.pool import Pool
from libs.common.directory import templates
from libs.common.directory.templates import Told
from libs.common.logging import get_logger
from services.ingest.template_news import TemplateNews

log = get_logger()


async def hear(pool: Pool, news: Sequence[TemplateNews]) -> None:
    """Record it. A repeat, and an older word than stands, change nothing."""
    if not news:
        return
    told = {
        kind: [Told(one.waba_id, one.name, one.language, one.word, one.at) for one in news if one.kind == kind]
        for kind in ("status", "category")
    }
    async with pool.acquire() as db, db.transaction():
        changed = {
            "status": await templates.tell_statuses(db, told["status"]),
            "category": await templates.tell_categories(db, told["category"]),
        }
    for kind, those in changed.items():
        for template in those:
            log.info(
                "template.told",
                org_id=template.org_id,
                template=template.name,
                language=template.language,
                kind=kind,
                outcome=template.word,
            )
