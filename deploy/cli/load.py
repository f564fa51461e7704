"""``transom load``: a garage from a file, through the same statements that ``directory.changes.v1`` takes. All or nothing."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from deploy.cli.load_format import Loaded, read
from deploy.cli.one_machine import SANDBOX_URL, register
from libs.common.db.pool import Connection, open_pool
from libs.common.db.schema import require_schema
from libs.common.directory import changes, templates
from libs.common.directory.templates import Template
from libs.common.events.directory import (
    ConsentChanged,
    CustomerUpserted,
    DirectoryChange,
    NumberUpserted,
    OrgCredit,
    OrgUpserted,
)
from libs.common.sanitize import sanitize
from libs.common.sending.rate_card import Rate, upsert_rates
from libs.common.settings import PostgresSettings
from libs.common.settings import load as load_settings

Place = tuple[str | int, ...]
COMMAND_SECONDS = 60.0  # a file may hold a whole platform; nobody waits behind it


async def load_file(path: Path) -> str:
    """Load into the database of the environment, and tell the sandbox if the environment names one.

    Returns a sentence about what the file held. Raises ConfigurationError.
    """
    dsn = load_settings(PostgresSettings).postgres_dsn.get_secret_value()
    told = await load_into(dsn, path)
    if sandbox := os.environ.get(SANDBOX_URL):
        await register(sandbox, dsn)
        told += "; the sandbox knows numbers and templates"
    return told


async def load_into(dsn: str, path: Path) -> str:
    """Load into the database at ``dsn``. Raises ConfigurationError naming line and field, or the migrations that are missing; nothing is changed then."""
    loaded = read(path)
    async with open_pool(dsn, application_name="transom-load", size=1, command_seconds=COMMAND_SECONDS) as pool:
        await require_schema(pool)
        async with pool.acquire() as db, db.transaction():
            await _apply(db, loaded, pool.now())
    orgs = loaded.content.orgs
    return (
        f"loaded {len(orgs)} orgs, {sum(len(o.numbers) for o in orgs)} numbers, {sum(len(o.customers) for o in orgs)} customers,"
        f" {sum(len(o.templates) for o in orgs)} templates, {len(loaded.content.rate_card)} prices"
    )


async def _apply(db: Connection, loaded: Loaded, now: datetime) -> None:
    told = list(_changes(loaded, now))
    for refused in await changes.apply(db, [change for _, change in told]):
        raise loaded.fault(told[refused.index][0], refused.detail)
    await templates.upsert(db, list(_templates(loaded, now)))
    await upsert_rates(
        db,
        [
            Rate(rate.from_, rate.channel, rate.category, rate.country, rate.currency, rate.price)
            for rate in loaded.content.rate_card
        ],
    )


def _templates(loaded: Loaded, now: datetime) -> Iterator[Template]:
    """An organisation has its templates in each of its WABAs."""
    for org in loaded.content.orgs:
        for waba_id in sorted({number.waba_id for number in org.numbers}):
            for template in org.templates:
                yield Template(
                    org_id=org.org_id,
                    waba_id=waba_id,
                    name=template.name,
                    language=template.language,
                    category=template.category,
                    parameter_format=template.parameter_format,
                    status=template.status,
                    body=sanitize(template.body),
                    header=sanitize(template.header),
                    buttons=sanitize(template.buttons),
                    now=now,
                )


def _changes(loaded: Loaded, at: datetime) -> Iterator[tuple[Place, DirectoryChange]]:
    """The file as directory changes, each with its place."""
    for o, org in enumerate(loaded.content.orgs):
        fields = org.model_dump(include={"org_id", "name", "sms_number", "sms_active", "portal_host", "policy"})
        yield ("orgs", o), OrgUpserted(at=at, **fields)
        if "credit_exhausted" in org.model_fields_set:
            yield ("orgs", o, "credit_exhausted"), OrgCredit(org_id=org.org_id, at=at, exhausted=org.credit_exhausted)
        for n, number in enumerate(org.numbers):
            yield ("orgs", o, "numbers", n), NumberUpserted(org_id=org.org_id, at=at, **number.model_dump())
        for c, customer in enumerate(org.customers):
            place: Place = ("orgs", o, "customers", c)
            known = customer.model_dump(include={"customer_id", "name", "phone"}, exclude_unset=True)
            yield place, CustomerUpserted(org_id=org.org_id, at=at, **known)
            for category, allowed in customer.consents.items():
                yield (
                    (*place, "consents", category),
                    ConsentChanged(
                        org_id=org.org_id, at=at, customer_id=customer.customer_id, category=category, allowed=allowed
                    ),
                )
