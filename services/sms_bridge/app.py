"""The SMS bridge: commands become rows, rows become SMS, and what came of them is published."""

import secrets
import sys
from datetime import timedelta

from libs.common.bridge.link_codes import LinkCodes
from libs.common.bridge.redis_gate import RedisGate
from libs.common.open_service import open_service
from libs.common.redis import open_redis
from libs.common.sending.engine import open_engine
from libs.common.sending.outcomes import Timings
from libs.common.service import Service, run_service
from libs.common.settings import secrets_in
from services.sms_bridge import unconfirmed
from services.sms_bridge.adapter import SmsAdapter
from services.sms_bridge.effects import BridgeConfig
from services.sms_bridge.providers.twilio import open_twilio
from services.sms_bridge.settings import SmsBridgeSettings
from services.sms_bridge.topology import TOPOLOGY
from services.sms_bridge.worker import Deps

CALLS_AT_ONCE = 160  # of one number at most 128
_LOOK = timedelta(minutes=2)
"""A send of unknown outcome is looked for this often at least. Each look reads lists of the provider."""


async def run(settings: SmsBridgeSettings, service: Service) -> None:
    """Send until the service is to end."""
    timeout, grace, hold = timedelta(seconds=settings.send_timeout_seconds), settings.sms_grace, settings.bridge_hold
    async with (
        open_service(settings, service) as opened,
        open_redis(settings.redis_url.get_secret_value()) as redis,
        open_twilio(
            base_url=settings.twilio_base_url,
            account_sid=settings.twilio_account_sid,
            auth_token=secrets_in(settings.twilio_auth_tokens)[0].decode(),
            public_url=settings.public_url,
            timeout_seconds=settings.send_timeout_seconds,
            connections=CALLS_AT_ONCE,
            now=opened.pool.now,
        ) as provider,
    ):
        config = BridgeConfig(
            settings.window_length, settings.window_doubt, hold, settings.portal_link_life, settings.portal_url
        )
        gate, codes = RedisGate(redis, hold), LinkCodes(secrets_in(settings.portal_link_keys), secrets.choice)
        adapter = SmsAdapter(
            providers=[provider],
            pool=opened.pool,
            redis_gate=gate,
            link_codes=codes,
            config=config,
            grace=grace,
            settling=settings.send_settling,
        )
        timings = Timings(timeout=timeout, lease=settings.send_lease, grace=grace, look=_LOOK)
        async with (
            open_engine(opened, adapter, timings, CALLS_AT_ONCE) as line,
            opened.periodic({"sms_unconfirmed": unconfirmed.task(opened.pool, [provider])}),
            opened.consumer(TOPOLOGY, Deps(line)) as consumer,
        ):
            await service.serve(checks=opened.checks(consumer, sending=line.unready))


def main(port: int | None = None) -> int:
    """Run until a signal; returns the exit code."""
    return run_service("sms-bridge", SmsBridgeSettings, run, port=port)


if __name__ == "__main__":
    sys.exit(main())
