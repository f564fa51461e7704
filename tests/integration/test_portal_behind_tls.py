"""Behind a proxy that ends TLS the configured address counts, and nothing that a request says of itself."""

import ssl
from pathlib import Path

import httpx
from playwright.async_api import Browser as Chromium

from deploy.local.servers.ports import free_port
from libs.common.kafka.connection import KafkaConnection
from services.portal.budget import MISSES
from tests.support.portal_served import a_served_portal
from tests.support.portal_site import Browser
from tests.support.tls_proxy import a_tls_proxy

FORGED = {
    "x-forwarded-proto": "http",
    "x-forwarded-host": "evil.example",
    "x-forwarded-port": "80",
    "forwarded": "for=198.51.100.7;host=evil.example;proto=http",
}


async def test_forged_forwarding_changes_neither_cookies_nor_host_nor_budget(
    database: str, redis_url: str, kafka_of_portal: KafkaConnection, browser: Chromium, tmp_path: Path
) -> None:
    outer, inner = free_port(), free_port()
    url = f"https://localhost:{outer}"
    async with (
        a_served_portal(database, redis_url, kafka_of_portal, browser, url=url, port=inner) as portal,
        a_tls_proxy(outer, inner, tmp_path),
        httpx.AsyncClient(
            base_url=url, verify=ssl.create_default_context(cafile=tmp_path / "localhost.pem"), headers=FORGED
        ) as client,
    ):
        kim = await portal.site.a_person()
        visitor = Browser(client)
        opened = await visitor.open(await portal.site.a_link(kim, portal.host))
        assert (opened.status_code, opened.headers["location"]) == (303, "/conversation")
        assert opened.headers["set-cookie"].startswith("__Host-transom-session=")
        assert "; Secure" in opened.headers["set-cookie"]
        assert "Domain" not in opened.headers["set-cookie"]
        page = await visitor.get("/conversation")
        assert page.headers["strict-transport-security"]
        assert "evil.example" not in page.text
        assert (await visitor.write("Thanks")).status_code == 303
        for host in ("evil.example", f"127.0.0.1:{inner}", f"localhost:{inner}"):
            assert (await visitor.get("/conversation", host=host)).status_code == 421, host
        plain = {"origin": url.replace("https:", "http:"), "sec-fetch-site": "same-origin"}
        assert (await visitor.post("/conversation/messages", {"text": "forged"}, plain)).status_code == 403
        tries = [
            (await visitor.get(f"/AAAAAAAAA{n:02}", **{"x-forwarded-for": f"198.51.100.{n}"})).status_code
            for n in range(MISSES + 2)
        ]
        assert tries == [404] * MISSES + [429] * 2
