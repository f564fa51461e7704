"""What a provider answers, read within a limit: a peer that never ends, or ends late, costs no more memory than that."""

import aiohttp

ANSWER_LIMIT = 256 * 1024
"""For an answer about one message; no provider's is near it."""


async def read_answer(response: aiohttp.ClientResponse, limit: int = ANSWER_LIMIT) -> bytes | None:
    """The body, or None when it is larger than ``limit`` bytes; the rest of it is left unread, and its connection with it."""
    raw = bytearray()
    async for piece in response.content.iter_any():
        raw += piece
        if len(raw) > limit:
            response.close()
            return None
    return bytes(raw)
