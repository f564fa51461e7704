"""Metrics as Prometheus reads them: the text of ``/metrics``, of this process or of a service."""

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from libs.common import metrics


def scraped(name: str, **labels: str) -> float:
    """Of this process: the sum of the samples of that name that have these labels. Fails where there is none."""
    return _sum(metrics.render().decode(), name, labels)


async def scraped_from(url: str, name: str, **labels: str) -> float:
    """The same of a service."""
    return _sum(await page_of(url), name, labels)


async def page_of(url: str) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as answer:
        assert answer.status == 200
        return await answer.text()


def _sum(text: str, name: str, labels: dict[str, str]) -> float:
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert found, f"nothing is scraped of {name} {labels}"
    return sum(found)
