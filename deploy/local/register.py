"""Register the numbers and templates of the database with the sandbox, as Meta knows a business's own.

The sandbox keeps them in memory only. So they are registered when it starts, and whenever a file was loaded.
"""

import aiohttp

from deploy.local import queries
from deploy.local.sandbox.client import SandboxClient, SandboxError
from libs.common.db.pool import open_pool
from libs.common.errors import ConfigurationError


async def register(sandbox_url: str, dsn: str) -> None:
    """Register every number and template. Raises ConfigurationError when the sandbox does not take them."""
    async with open_pool(dsn, application_name="transom-register", size=1) as pool, pool.acquire() as db:
        numbers = [dict(row) for row in await queries.all_numbers(db)]
        templates = [dict(row) for row in await queries.all_templates(db)]
    try:
        async with SandboxClient(sandbox_url) as sandbox:
            for (
                template
            ) in templates:  # first: an account without its numbers is unknown, and nobody takes it for empty
                await sandbox.template(**template)
            for number in numbers:
                await sandbox.number(**number)
    except (aiohttp.ClientError, TimeoutError, SandboxError) as error:
        raise ConfigurationError(
            f"the sandbox at {sandbox_url} does not take numbers and templates ({type(error).__name__}):"
            " is transom up running? Without a sandbox, unset TRANSOM_SANDBOX_URL"
        ) from error
