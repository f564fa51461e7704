"""The example garage of ``transom up``, and the links that open it: a conversation in the portal, all in the inbox.

The garage is loaded from a file that ``transom load`` takes, which stays in the folder as an example. Its customers
write through the sandbox, as any customer does: one now, one so long ago that the window has closed. A database that
the user brought is left alone.
"""

import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID, uuid4

import yaml
from pydantic import SecretStr

from deploy.cli.load import load_into
from deploy.cli.one_machine import SANDBOX_URL
from deploy.local import queries
from deploy.local.register import register
from deploy.local.sandbox.client import SandboxClient
from libs.common.bridge.link_codes import LinkCodes
from libs.common.db.pool import Pool, open_pool
from libs.common.errors import ConfigurationError
from libs.common.portal_host import platform_origin
from libs.common.setting_types import secrets_in

ORG, NUMBER, PHONE, LATE_PHONE = "example", "106400000000000", "+447700900998", "+447700900997"
_BODIES = {
    "car_is_ready": "Hi {{customer_name}}, your {{vehicle}} is ready. You can collect it until {{closing_time}} today.",
    "decision_needed": "Hi {{customer_name}}, we need your decision on your {{vehicle}}. Please answer here.",
}
GARAGE = {
    "org_id": ORG,
    "name": "Example Garage",
    "country": "GB",
    "currency": "GBP",
    "sms_number": "+447700900199",
    "sms_active": True,
    "numbers": [{"phone_number_id": NUMBER, "waba_id": "206400000000000", "display_number": "+447700900198"}],
    "customers": [
        {"customer_id": "5f0c8e9a-0000-4000-8000-000000000001", "name": "Kim", "phone": PHONE},
        {"customer_id": "5f0c8e9a-0000-4000-8000-000000000002", "name": "Sam", "phone": LATE_PHONE},
    ],
    "templates": [
        {"name": name, "language": "en_GB", "category": "UTILITY", "parameter_format": "NAMED", "body": body}
        for name, body in _BODIES.items()
    ],
}
RATE_CARD = [
    {"from": "2026-01-01", "channel": channel, "category": category, "country": "GB", "currency": "GBP", "price": price}
    for channel, category, price in (
        ("sms", "sms", "0.0400"),
        ("whatsapp", "utility", "0.0159"),
        ("whatsapp", "marketing", "0.0382"),
        ("whatsapp", "service", "0.0040"),
    )
]
"""Prices of the example. Those that a user loads are of a later day, and count instead."""
LINK_LIFE = timedelta(days=1)
_LATE = timedelta(hours=25)
_PATIENCE = 10.0


async def load_garage(env: Mapping[str, str], folder: Path) -> None:
    """Load the garage; its people sign in at the provider of this run. Raises ConfigurationError."""
    file = folder / "example.yaml"
    sign_in = {"sign_in": {"issuer": issuer, "tenant": ORG}} if (issuer := env.get("TRANSOM_OIDC_ISSUER")) else {}
    file.write_text(yaml.safe_dump({"orgs": [GARAGE | sign_in], "rate_card": RATE_CARD}, sort_keys=False))
    await load_into(env["TRANSOM_POSTGRES_DSN"], file)


async def inbox_links(env: Mapping[str, str], page: str = "/inbox") -> Mapping[str, str]:
    """A fresh link for each of the sandbox's people, by name and role. It opens this page of the inbox as them, once.

    Empty where people sign in at a real provider.
    """
    if not env.get("TRANSOM_OIDC_ISSUER", "").startswith(env[SANDBOX_URL]):
        return {}
    async with SandboxClient(env[SANDBOX_URL]) as sandbox:
        return {
            f"{one['name']}, {one['role']}": f"{env['TRANSOM_INBOX_URL']}/login/start?"
            + urlencode({"login_hint": await sandbox.sign_in_ticket(one["user_id"]), "next": page}, safe="/")
            for one in await sandbox.colleagues()
        }


async def conversation_links(env: Mapping[str, str]) -> tuple[Mapping[str, str], str]:
    """Fresh links that open the example's conversation, once each: those of the inbox, and that of the portal.

    Raises ConfigurationError.
    """
    async with SandboxClient(env[SANDBOX_URL]) as sandbox:
        await sandbox.sms_account(currency=GARAGE["currency"])  # else what the provider tells is in no total
    async with open_pool(env["TRANSOM_POSTGRES_DSN"], application_name="transom-example", size=1) as pool:
        conversation_id = await _conversation(pool)
        if conversation_id is None:
            await register(env[SANDBOX_URL], env["TRANSOM_POSTGRES_DSN"])
            async with SandboxClient(env[SANDBOX_URL]) as sandbox:
                late = "Can you look at my clutch this week?"
                await sandbox.customer_writes(NUMBER, LATE_PHONE, text=late, age=_LATE.total_seconds())
                await sandbox.customer_writes(NUMBER, PHONE, text="Is my car ready?")
                conversation_id = await _written(pool, sandbox)
        portal = await fresh_link(pool, env, ORG, conversation_id, PHONE)
    return await inbox_links(env, f"/inbox/{conversation_id}"), portal


async def fresh_link(pool: Pool, env: Mapping[str, str], org_id: str, conversation_id: UUID, phone: str) -> str:
    """A link that opens this conversation in the portal, once, as if an SMS to ``phone`` had carried it."""
    link = LinkCodes(secrets_in(SecretStr(env["TRANSOM_PORTAL_LINK_KEYS"])), secrets.choice).fresh()
    origin, now = platform_origin(env["TRANSOM_PORTAL_URL"]), pool.now()
    async with pool.acquire() as db:
        await queries.store_link(
            db, (link.code_hash, org_id, conversation_id, uuid4(), origin.host, phone, now + LINK_LIFE, now)
        )
    return f"{origin}/{link.code}"


async def _written(pool: Pool, sandbox: SandboxClient) -> UUID:
    try:
        found: UUID = await sandbox.until(lambda: _conversation(pool), _PATIENCE)
    except TimeoutError:
        raise ConfigurationError(f"the example's conversation is not there after {_PATIENCE:.0f} s") from None
    return found


async def _conversation(pool: Pool) -> UUID | None:
    async with pool.acquire() as db:
        return await queries.written_conversation(db, ORG, PHONE)
