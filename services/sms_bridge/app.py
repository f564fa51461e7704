"""The SMS bridge: commands become rows, rows become SMS, and what came of them is told."""

import secrets
import sys
from collections.abc import Sequence
from datetime import timedelta

import aiohttp

from libs.common.bridge.link_codes import LinkCodes
from libs.common.bridge.redis_gate import RedisGate
from libs.common.clock import utc_now
from libs.common.db.pool import open_pool
from libs.common.db.schema import require_schema, schema_check
from libs.common.errors import Transient
from libs.common.events.outbound import SmsCommand
from libs.common.events.topics import OUTBOUND_SMS
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.parked import Traces
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import of_values
from libs.common.kafka.subscription import Subscription
from libs.common.periodic import run_periodically
from libs.common.redis import open_redis
from libs.common.sending.line import Line
from libs.common.sending.outcomes import Timings
from libs.common.service import Service, run_service
from libs.common.settings import secrets_in
from services.sms_bridge import unheard
from services.sms_bridge.carrier import SmsCarrier
from services.sms_bridge.providers.twilio import Twilio
from services.sms_bridge.settings import SmsBridgeSettings
from services.sms_bridge.settle import Terms
from services.sms_bridge.worker import as_sends

NAME = "sms-bridge"
CALLS_AT_ONCE = 160  # of one number at most 128
_LOOK = timedelta(minutes=2)
"""A send of unknown outcome is looked for this often at least: each look reads lists at the provider, for a day where they are masked."""
_CALLBACK_PATH = "/webhooks/twilio/status"


async def run(settings: SmsBridgeSettings, service: Service) -> None:
    """Send until the service ends."""
    kafka = settings.kafka_connection("transom-sms-bridge")
    async with (
        open_pool(
            settings.postgres_dsn.get_secret_value(),
            application_name="transom-sms-bridge",
            size=settings.postgres_pool_size,
            command_seconds=settings.postgres_timeout_seconds,
            drain=service.drain,
        ) as pool,
        open_redis(settings.redis_url.get_secret_value()) as redis,
        Producer(kafka, drain=service.drain) as producer,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CALLS_AT_ONCE)) as http,
    ):
        await require_schema(pool)
        provider = Twilio(
            http,
            base_url=settings.twilio_base_url,
            account_sid=settings.twilio_account_sid,
            auth_token=secrets_in(settings.twilio_auth_tokens)[0].decode(),
            status_callback=None if settings.public_url is None else settings.public_url + _CALLBACK_PATH,
            timeout_seconds=settings.send_timeout_seconds,
        )
        timings = Timings(
            timeout=timedelta(seconds=settings.send_timeout_seconds),
            lease=settings.send_lease,
            grace=settings.sms_grace,
            look=_LOOK,
        )
        carrier = SmsCarrier(
            provider=provider,
            pool=pool,
            redis_gate=RedisGate(redis, settings.bridge_hold),
            link_codes=LinkCodes(secrets_in(settings.portal_link_keys), secrets.choice),
            terms=Terms(
                window_length=settings.window_length,
                window_doubt=settings.window_doubt,
                hold=settings.bridge_hold,
                link_life=timedelta(seconds=settings.portal_link_seconds),
                portal_host=settings.portal_url,
            ),
            grace=settings.sms_grace,
            settling=settings.send_settling,
        )
        line = Line(carrier, pool, producer, timings, now=pool.now, concurrency=CALLS_AT_ONCE, drain=service.drain)

        async def on_commands(commands: Sequence[SmsCommand]) -> None:
            await line.accept(as_sends(commands))

        consumer = BatchConsumer(
            kafka,
            group=NAME,
            service=NAME,
            producer=producer,
            now=utc_now,
            remember=Traces(pool),
            dlq_run_limit=settings.dlq_run_limit,
            instance_id=settings.instance,
            drain=service.drain,
            subscriptions=[
                Subscription(
                    OUTBOUND_SMS,
                    lambda record: SmsCommand.decode(record.value),
                    of_values(on_commands),
                    settings.batch_records,
                )
            ],
        )

        async def sending() -> None:
            if reason := line.unready():
                raise Transient(reason)

        async def kafka_answers() -> None:
            if reason := consumer.unready() or await producer.unready():
                raise Transient(reason)

        asking = run_periodically("sms_unheard", unheard.PERIOD, lambda: unheard.follow(pool, provider, pool.now))
        async with (
            line,
            service.background(line.watch()),
            service.background(asking),
            consumer,
            service.background(consumer.watch()),
        ):
            await service.serve(checks={"postgres": schema_check(pool), "kafka": kafka_answers, "sending": sending})


def main(port: int | None = None) -> int:
    """Run until a signal; returns the exit code."""
    return run_service(NAME, SmsBridgeSettings, run, port=port)


if __name__ == "__main__":
    sys.exit(main())
