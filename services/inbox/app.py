"""The inbox: what staff read, answer and decide, as an API and as pages."""

import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

import httpx2
from starlette.routing import BaseRoute, Route

from libs.common.clock import Clock
from libs.common.db.pool import Pool, open_pool
from libs.common.db.schema import schema_check
from libs.common.db.shares import Shares
from libs.common.db.stalls import outlast_stalls
from libs.common.open_service import OpenService, open_service
from libs.common.pages.static_files import StaticFiles
from libs.common.periodic import Task
from libs.common.service import Service, run_service
from libs.common.setting_types import secrets_in
from services.inbox import session_queries
from services.inbox.admission import Admission, Issuers
from services.inbox.api.app import build_api
from services.inbox.conversations import Conversations
from services.inbox.cursors import Cursors
from services.inbox.customers import Customers
from services.inbox.deps import Access, Deps, Keys
from services.inbox.guard import Guard
from services.inbox.heads import Backfill
from services.inbox.html import STATIC, Html
from services.inbox.jwks import FRESH, Jwks
from services.inbox.live import Live
from services.inbox.media import Media, open_media
from services.inbox.messages import Messages
from services.inbox.notices import Notices
from services.inbox.oidc import Client, Provider
from services.inbox.organisations import Organisations
from services.inbox.outbox import PATIENCE_SECONDS
from services.inbox.pages import bell, composer, events, inbox, provider, sign_in, spend, templates
from services.inbox.pages import media as media_pages
from services.inbox.parked import ParkedTexts
from services.inbox.read_marks import ReadMarks
from services.inbox.request_budget import RequestBudget
from services.inbox.sending import PUBLISH_EVERY, Sending
from services.inbox.sessions import Members, Sessions
from services.inbox.settings import InboxServiceSettings
from services.inbox.telling import Teller
from services.inbox.template_graph import open_template_graph
from services.inbox.template_sync import TemplateSync
from services.inbox.templates import Templates
from services.inbox.tokens import Rules
from services.inbox.topology import TOPOLOGY
from services.inbox.touched import PERIOD, tell_touched
from services.inbox.visits import available, nothing
from services.inbox.windows import WindowRule
from services.inbox.worker import WorkerDeps

_KEY_BYTES = 32
_PROVIDER_SECONDS = 5.0
_META_SECONDS = 10.0
_PURGE_PERIOD = timedelta(minutes=10)
_HEADS_PERIOD = timedelta(minutes=1)
_SHARES = 4
"""An organisation reads over a fourth of the connections at most, and an address asks for sessions over one."""


async def run(settings: InboxServiceSettings, service: Service) -> None:
    """Answer until the service is to end."""
    async with (
        open_service(settings, service, delivery_timeout=PATIENCE_SECONDS, kafka_may_be_away=True) as opened,
        _reads(settings, service) as reads,
        _provider_client() as http,
        open_template_graph(
            base_url=settings.graph_base_url, version=settings.graph_version, timeout_seconds=_META_SECONDS
        ) as graph,
        _media(settings) as media,
    ):
        static = StaticFiles(STATIC)
        jwks = None if settings.jwks_url is None else Jwks(http, settings.jwks_url)
        token = settings.whatsapp_token.get_secret_value()
        sync = TemplateSync(opened.pool, graph, token=token, period=settings.template_sync)
        deps = await _deps(
            settings,
            opened,
            reads,
            static,
            _access(settings, reads.pool, http, jwks),
            written=Templates(opened.pool, graph, sync),
            media=media,
        )
        async with (
            service.background(deps.live.follow()),
            service.background(deps.live.watch()),
            service.background(_end_streams(service, deps.live)),
            opened.periodic(_tasks(deps, jwks) | sync.tasks),
            opened.consumer_once_there(TOPOLOGY, WorkerDeps(opened.pool, deps.rule, deps.parked, deps.notices)),
        ):
            await service.serve(
                checks={"postgres": schema_check(reads.pool)},  # without Kafka people read on
                routes=_pages(deps, static),
                around=lambda pages: Guard(pages, build_api(deps), settings.inbox),
            )


@asynccontextmanager
async def _reads(settings: InboxServiceSettings, service: Service) -> AsyncIterator[Shares]:
    """What people read has connections of its own: a backlog of the worker keeps nobody waiting."""
    size = settings.postgres_pool_size
    async with AsyncExitStack() as opened:
        pool = await outlast_stalls(
            lambda: opened.enter_async_context(
                open_pool(
                    settings.postgres_dsn.get_secret_value(),
                    application_name=f"transom-{service.name}-reads",
                    size=size,
                    command_seconds=settings.postgres_timeout_seconds,
                    drain=service.drain,
                )
            )
        )
        yield Shares(pool, max(1, size // _SHARES))


def _provider_client() -> httpx2.AsyncClient:
    """Asks identity providers. It follows no redirect: an address of the settings is asked, and no other."""
    return httpx2.AsyncClient(timeout=_PROVIDER_SECONDS, follow_redirects=False, trust_env=False)


def _access(settings: InboxServiceSettings, pool: Pool, http: httpx2.AsyncClient, jwks: Jwks | None) -> Access:
    rules = Rules(settings.jwt_audience, settings.jwt_issuer)
    issuers = Issuers(secrets_in(settings.jwt_keys), jwks, rules, settings.issuers_of_full_access)
    organisations = Organisations(pool, settings.oidc_tenant_claim, settings.oidc_issuer)
    return Access(
        admission=Admission(issuers, organisations, Members(pool), pool.now),
        organisations=organisations,
        provider=_provider(settings, http, pool.now),
        full_access=issuers.full_access,
        budget=RequestBudget(),
    )


def _provider(settings: InboxServiceSettings, http: httpx2.AsyncClient, now: Clock) -> Provider | None:
    if settings.oidc_issuer is None or settings.oidc_client_id is None or settings.inbox is None:
        return None
    client = Client.of(settings.oidc_client_id, settings.oidc_client_secret.get_secret_value(), settings.inbox)
    return Provider(http, settings.oidc_issuer, client, now)


def _media(settings: InboxServiceSettings) -> AbstractAsyncContextManager[Media]:
    return open_media(
        base_url=settings.graph_base_url,
        version=settings.graph_version,
        token=settings.whatsapp_token.get_secret_value(),
    )


async def _keys(pool: Pool) -> Keys:
    async with pool.acquire() as db:
        return Keys.of(await session_queries.key(db, secrets.token_bytes(_KEY_BYTES)))


async def _deps(
    settings: InboxServiceSettings,
    opened: OpenService,
    reads: Shares,
    static: StaticFiles,
    access: Access,
    *,
    written: Templates,
    media: Media,
) -> Deps:
    pool = opened.pool
    keys = await outlast_stalls(partial(_keys, pool))
    sessions = Sessions(reads.pool, keys.sessions, max(1, settings.postgres_pool_size // _SHARES))
    cursors = Cursors(keys.cursors)
    rule = WindowRule(settings.window_length, settings.window_doubt, settings.closing_soon, settings.window_margin)
    conversations, messages = Conversations(reads, rule, cursors), Messages(reads, cursors)
    teller = Teller(reads, conversations, messages)
    sending = Sending(pool, opened.producer, pool.now)
    return Deps(
        pool=pool,
        producer=opened.producer,
        keys=keys,
        access=access,
        sessions=sessions,
        html=Html(static),
        sending=sending,
        live=Live(reads.pool, settings.kafka_connection("transom-inbox"), sessions, teller, rule),
        rule=rule,
        reads=reads,
        conversations=conversations,
        messages=messages,
        media=media,
        customers=Customers(reads, rule),
        parked=ParkedTexts(pool, opened.producer, pool.now, rule, sending, reads),
        templates=written,
        notices=Notices(pool, opened.producer, pool.now, rule, reads),
        is_local=settings.is_local,
        trusted_proxies=settings.trusted_proxies,
    )


async def _end_streams(service: Service, live: Live) -> None:
    await service.stopped()
    live.end_all()


def _pages(deps: Deps, static: StaticFiles) -> list[BaseRoute]:
    """Every path that is no path of the API."""
    return [
        Route("/static/{name}", static.serve),
        *sign_in.routes(deps),
        *provider.routes(deps),
        *bell.routes(deps),
        *inbox.routes(deps),
        *composer.routes(deps),
        *media_pages.routes(deps),
        *events.routes(deps),
        *spend.routes(deps),
        *templates.routes(deps),
        Route("/{path:path}", available(deps, nothing)),  # the last one
    ]


def _tasks(deps: Deps, jwks: Jwks | None) -> dict[str, Task]:
    keys: dict[str, Task] = {} if jwks is None else {"jwks": (FRESH, jwks.refresh)}
    touched: Task = PERIOD, partial(tell_touched, deps.pool, deps.rule, deps.parked.send_open)
    return {
        "purge": (_PURGE_PERIOD, deps.sessions.purge),
        "holds": (PUBLISH_EVERY, deps.sending.publish_left),
        "forget_sends": (_PURGE_PERIOD, deps.sending.forget),
        "forget_changes": (_PURGE_PERIOD, deps.live.forget),
        "heads": (_HEADS_PERIOD, Backfill(deps.pool, deps.rule).step),
        "touched": touched,
        **ReadMarks(deps.pool).tasks,
        **deps.parked.tasks,
        **deps.notices.tasks,
    } | keys


def main(port: int | None = None) -> int:
    """Run until a signal; returns the exit code."""
    return run_service("inbox", InboxServiceSettings, run, port=port)


if __name__ == "__main__":
    sys.exit(main())
