"""A browser without scripts, for tests: it keeps cookies, and posts forms as a page of its host does."""

import re
from collections.abc import Mapping

import httpx

_TOKEN = re.compile(r'name="token" value="([^"]*)"')


class FormBrowser:
    """One browser on one host."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.origin = str(client.base_url).rstrip("/")

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=headers)

    async def post(
        self, path: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Post a form, with the headers of a browser on our page unless others are given."""
        ours = {"origin": self.origin, "sec-fetch-site": "same-origin"} if headers is None else dict(headers)
        return await self.client.post(path, data=dict(fields), headers=ours)


def token_of(page: httpx.Response) -> str:
    """The token of the forms of a page."""
    found = _TOKEN.search(page.text)
    assert found is not None, page.text
    return found[1]
