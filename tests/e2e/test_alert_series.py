"""Services at work expose every series that the alerts read, before anything goes wrong."""

import asyncio
import time

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.garages import a_garage
from tests.support.metric_names import named_in
from tests.support.runbook_checks import alerts
from tests.support.scraped import page_of
from tests.support.system import SERVICES, System

FRESH = 60.0
TIME = "_timestamp_seconds"
WITH_THE_FIRST = {"transom_kafka_records_dead_lettered_total"}
"""It appears with a reason's first letter. Its rule takes that into account."""


async def test_a_system_that_is_well_exposes_what_alerts_read_and_is_well_by_it(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote()
    await system.reaches(await kim.is_sent(), "read")
    await system.quiet()
    samples = await _samples(system)
    read = {name for rule in alerts().values() for name in named_in(rule["expr"])}
    assert read - {sample.name for sample in samples} - WITH_THE_FIRST == set()
    assert {sample.labels["requests"] for sample in samples if sample.name == "transom_serving"} == {"webhooks"}
    times = [sample for sample in samples if sample.name in read and sample.name.endswith(TIME)]
    topics = {sample.labels["topic"] for sample in times if "topic" in sample.labels}
    assert {"webhooks.v1", "outbound.intents.v1", "outbound.whatsapp.v1", "outbound.sms.v1"} <= topics
    assert {sample.labels["channel"] for sample in times if "channel" in sample.labels} == {"whatsapp", "sms"}
    old: list[Sample] = []

    async def none_is_old() -> bool:  # a topic that is new has its positions later than others their messages
        told = [sample for sample in await _samples(system) if sample.name in read]
        old[:] = [
            sample for sample in told if "kafka" in sample.name and sample.name.endswith(TIME) and _is_old(sample)
        ]
        return not old

    try:
        await system.until(none_is_old, "every topic makes progress")
    except AssertionError as error:
        raise AssertionError(f"no progress for {FRESH:.0f} s: {old}") from error


async def _samples(system: System) -> list[Sample]:
    pages = await asyncio.gather(*(page_of(system.services[name].url) for name in SERVICES))
    return [sample for page in pages for family in text_string_to_metric_families(page) for sample in family.samples]


def _is_old(sample: Sample) -> bool:
    return time.time() - float(sample.value) > FRESH
