"""The router: intents and refusals in, decisions and commands out."""

from libs.common.bridge.redis_gate import RedisGate
from libs.common.open_service import open_service
from libs.common.redis import open_redis
from libs.common.service import Service, run_service
from services.router.bridge_counts import BridgeCounts
from services.router.portal_unread import UnreadAnswers
from services.router.reconcile import Reconciler
from services.router.settings import RouterSettings
from services.router.topology import TOPOLOGY
from services.router.worker import Deps


async def run(settings: RouterSettings, service: Service) -> None:
    async with open_service(settings, service) as opened, open_redis(settings.redis_url.get_secret_value()) as redis:
        deps = Deps(
            pool=opened.pool,
            redis_gate=RedisGate(redis, settings.bridge_hold),
            producer=opened.producer,
            now=opened.pool.now,
            window_length=settings.window_length,
            margin=settings.window_margin,
            doubt=settings.window_doubt,
        )
        reconciler = Reconciler(deps, settings.reconcile_after)
        unread, counts = UnreadAnswers(deps, settings.reconcile_after), BridgeCounts(opened.pool, opened.pool.now)
        tasks = {**reconciler.tasks, **unread.tasks, **counts.tasks}
        async with opened.consumer(TOPOLOGY, deps) as consumer, opened.periodic(tasks):
            await service.serve(checks=opened.checks(consumer))


def main(port: int | None = None) -> int:
    return run_service("router", RouterSettings, run, port=port)
