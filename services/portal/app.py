"""The portal: what a customer reads and writes behind a magic link."""

import secrets
import sys
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from libs.common import metrics
from libs.common.bridge.link_codes import LinkCodes
from libs.common.bridge.portal_keys import PurposeKeys
from libs.common.db.schema import schema_check
from libs.common.db.shares import Shares
from libs.common.open_service import open_service
from libs.common.pages.cookies import FormTokens
from libs.common.pages.static_files import StaticFiles
from libs.common.redis import open_redis
from libs.common.service import Service, run_service
from libs.common.setting_types import secrets_in
from services.portal.browser import Keys
from services.portal.budget import MissBudget
from services.portal.conversation import Conversation
from services.portal.deps import Deps
from services.portal.guard import Endpoint, Guard, available
from services.portal.html import STATIC, Html
from services.portal.links import Links
from services.portal.outbox import Outbox
from services.portal.publishing import PATIENCE_SECONDS
from services.portal.seats import Seats
from services.portal.settings import PortalServiceSettings
from services.portal.sites import Sites
from services.portal.streams import Streams

_SHARES = 4
"""An address has a fourth of the connections at most."""
ROLE = "transom_portal"
"""The role of the database that every connection takes: see libs/common/db/portal_rights.sql."""


async def run(settings: PortalServiceSettings, service: Service) -> None:
    """Answer until the service is to end."""
    async with (
        open_service(settings, service, role=ROLE, delivery_timeout=PATIENCE_SECONDS, kafka_may_be_away=True) as opened,
        open_redis(settings.redis_url.get_secret_value(), prefix="portal") as redis,
    ):
        masters, static = secrets_in(settings.portal_link_keys), StaticFiles(STATIC)
        html = Html(static)
        outbox = Outbox(opened.producer)
        streams = Streams(opened.pool, outbox, html, Seats(redis))
        deps = Deps(
            pool=opened.pool,
            shares=Shares(opened.pool, max(1, settings.postgres_pool_size // _SHARES)),
            producer=opened.producer,
            keys=Keys(LinkCodes(masters, secrets.choice), PurposeKeys(masters, "sessions"), FormTokens(masters)),
            outbox=outbox,
            budget=MissBudget(redis, PurposeKeys(masters, "addresses")),
            streams=streams,
            html=html,
            trusted_proxies=settings.trusted_proxies,
        )
        sites = Sites(opened.pool, settings.platform)
        metrics.SERVING.labels("portal").set(1)
        async with (
            service.background(opened.producer.until_there()),
            service.background(outbox.run()),
            service.background(streams.watch()),
            service.background(streams.keep_seats()),
            service.background(_end_streams(service, streams)),
        ):
            await service.serve(
                checks={"postgres": schema_check(opened.pool)},  # without Kafka customers read on
                routes=routes(deps, static),
                around=lambda app: Guard(app, sites, html),
            )
        await outbox.flush()


def routes(deps: Deps, static: StaticFiles) -> list[Route]:
    """Every path of the portal. A link is what no other path of one part is."""
    links, conversation = Links(deps), Conversation(deps)

    def route(path: str, endpoint: Endpoint, method: str = "GET") -> Route:
        return Route(path, available(deps.html, endpoint), methods=[method])

    return [
        Route("/static/{name}", static.serve),
        route("/conversation", conversation.show),
        route("/conversation/messages", conversation.write, "POST"),
        Route("/conversation/messages", _to_the_thread),
        route("/conversation/events", conversation.events),
        route("/{code}", links.show),
        route("/{code}", links.post, "POST"),
        route("/{path:path}", links.not_here),
    ]


async def _to_the_thread(_request: Request) -> Response:
    """Where a form was answered somebody comes back by the address: a page that was closed, or a bookmark."""
    return RedirectResponse("/conversation", HTTPStatus.SEE_OTHER)


async def _end_streams(service: Service, streams: Streams) -> None:
    await service.stopped()
    streams.end_all()


def main(port: int | None = None) -> int:
    """Run until a signal; returns the exit code."""
    return run_service("portal", PortalServiceSettings, run, port=port)


if __name__ == "__main__":
    sys.exit(main())
