"""The SMS bridge: commands become rows, rows become SMS, and what came of them is published."""

import secrets

from libs.common.bridge.link_codes import LinkCodes
from libs.common.bridge.redis_gate import RedisGate
from libs.common.open_files import allow_calls
from libs.common.open_service import open_service
from libs.common.redis import open_redis
from libs.common.sending.engine import open_engine
from libs.common.service import Service, run_service
from libs.common.setting_types import secrets_in
from services.sms_bridge import missed, prices, unconfirmed
from services.sms_bridge.adapter import SmsAdapter
from services.sms_bridge.providers.opening import open_accounts, open_http
from services.sms_bridge.settings import SmsBridgeSettings
from services.sms_bridge.topology import TOPOLOGY
from services.sms_bridge.worker import Deps


async def run(settings: SmsBridgeSettings, service: Service) -> None:
    """Send until the service is to end."""
    allow_calls(settings.sms_in_flight, "TRANSOM_SMS_IN_FLIGHT")
    async with (
        open_service(settings, service) as opened,
        open_redis(settings.redis_url.get_secret_value()) as redis,
        open_http() as http,
    ):
        accounts = settings.accounts
        providers = open_accounts(accounts, http, settings.provider_config, opened.pool.now)
        adapter = SmsAdapter(
            accounts=accounts,
            providers=providers,
            pool=opened.pool,
            redis_gate=RedisGate(redis, settings.bridge_hold),
            link_codes=LinkCodes(secrets_in(settings.portal_link_keys), secrets.choice),
            config=settings.bridge_config,
            grace=settings.sms_grace,
            settling=settings.send_settling,
        )
        async with (
            open_engine(opened, adapter, settings.timings, settings.sms_in_flight) as engine,
            opened.periodic(
                {
                    "sms_unconfirmed": unconfirmed.task(opened.pool, providers.values()),
                    "sms_prices": prices.task(opened.pool, providers.values()),
                    "sms_missed": missed.task(missed.Deps(opened.pool, opened.producer, accounts), providers.values()),
                }
            ),
            opened.consumer(TOPOLOGY, Deps(engine)) as consumer,
        ):
            await service.serve(checks=opened.checks(consumer, sending=engine.unready))


def main(port: int | None = None) -> int:
    return run_service("sms-bridge", SmsBridgeSettings, run, port=port)
