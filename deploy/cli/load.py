"""``transom load``: organisations from a file, by the code that applies ``directory.changes.v1``. All or nothing."""

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
from libs.common.sending.pricing import Rate, upsert_rates
from libs.common.settings import PortalUrlSettings, PostgresSettings
from libs.common.settings import load as load_settings

Place = tuple[str | int, ...]
COMMAND_SECONDS = 60.0  # a file may hold every organisation of the platform


async def load_file(path: Path) -> str:
    """Load into the database of the environment, and register with the sandbox if the environment names one.

    Returns a sentence about the file's content. Raises ConfigurationError.
    """
    dsn = load_settings(PostgresSettings).postgres_dsn.get_secret_value()
    loaded = await load_into(dsn, path, platform_host=load_settings(PortalUrlSettings).portal_host)
    if sandbox := os.environ.get(SANDBOX_URL):
        await register(sandbox, dsn)
        loaded += "; the sandbox knows numbers and templates"
    return loaded


async def load_into(dsn: str, path: Path, *, platform_host: str | None = None) -> str:
    """Load into the database at ``dsn``, or change nothing and raise ConfigurationError.

    The error names line and field, or the migrations that are missing.
    """
    loaded = read(path)
    async with open_pool(dsn, application_name="transom-load", size=1, command_seconds=COMMAND_SECONDS) as pool:
        await require_schema(pool)
        async with pool.acquire() as db, db.transaction():
            await _apply(db, loaded, pool.now(), platform_host)
    orgs = loaded.content.orgs
    counts = {
        "orgs": len(orgs),
        "numbers": sum(len(org.numbers) for org in orgs),
        "customers": sum(len(org.customers) for org in orgs),
        "templates": sum(len(org.templates) for org in orgs),
        "prices": len(loaded.content.rate_card),
    }
    return f"loaded {', '.join(f'{count} {name}' for name, count in counts.items())}"


async def _apply(db: Connection, loaded: Loaded, now: datetime, platform_host: str | None) -> None:
    placed = list(_changes(loaded, now))
    for refused in await changes.apply(db, [change for _, change in placed], platform_host=platform_host):
        raise loaded.fault(placed[refused.index][0], refused.detail)
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
        fields = org.model_dump(include=set(OrgUpserted.model_fields) - {"policy"})
        yield ("orgs", o), OrgUpserted(at=at, policy=org.policy.model_dump(exclude_none=True), **fields)
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
