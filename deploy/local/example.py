"""The example garage of ``transom up``, and a link of the portal that opens its conversation.

The garage is loaded from a file that ``transom load`` takes, which stays in the folder as an example. Its customer
writes through the sandbox, as any customer does. A database that the user brought is left alone.
"""

import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
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

ORG, NUMBER, PHONE = "example", "106400000000000", "+447700900998"
GARAGE = {
    "org_id": ORG,
    "name": "Example Garage",
    "country": "GB",
    "numbers": [{"phone_number_id": NUMBER, "waba_id": "206400000000000", "display_number": "+447700900198"}],
    "customers": [{"customer_id": "5f0c8e9a-0000-4000-8000-000000000001", "name": "Kim", "phone": PHONE}],
}
LINK_LIFE = timedelta(days=1)
_PATIENCE = 10.0


async def portal_link(env: Mapping[str, str], folder: Path) -> str:
    """A fresh link that opens the example's conversation, once. Raises ConfigurationError."""
    file = folder / "example.yaml"
    file.write_text(yaml.safe_dump({"orgs": [GARAGE]}, sort_keys=False))
    await load_into(env["TRANSOM_POSTGRES_DSN"], file)
    async with open_pool(env["TRANSOM_POSTGRES_DSN"], application_name="transom-example", size=1) as pool:
        conversation_id = await _conversation(pool)
        if conversation_id is None:
            await register(env[SANDBOX_URL], env["TRANSOM_POSTGRES_DSN"])
            async with SandboxClient(env[SANDBOX_URL]) as sandbox:
                await sandbox.customer_writes(NUMBER, PHONE, text="Is my car ready?")
                conversation_id = await _written(pool, sandbox)
        link = LinkCodes(secrets_in(SecretStr(env["TRANSOM_PORTAL_LINK_KEYS"])), secrets.choice).fresh()
        origin, now = platform_origin(env["TRANSOM_PORTAL_URL"]), pool.now()
        async with pool.acquire() as db:
            await queries.store_link(
                db, (link.code_hash, ORG, conversation_id, uuid4(), origin.host, PHONE, now + LINK_LIFE, now)
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
        return await queries.written_conversation(db, ORG)
