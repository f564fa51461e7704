import re
from typing import get_args

import pytest

from libs.common import metrics
from libs.common.metrics import MetricName


def test_every_name_is_declared_and_rendered() -> None:
    page = metrics.render().decode()
    for name in get_args(MetricName):
        assert re.search(rf"^# TYPE {name.removesuffix('_total')}(_total)? ", page, re.MULTILINE), name


def test_counting_adds_up() -> None:
    metrics.count("transom_decisions_total", 2, route="bridge", reason="a_test")
    metrics.count("transom_decisions_total", route="bridge", reason="a_test")
    assert 'transom_decisions_total{reason="a_test",route="bridge"} 3.0' in metrics.render().decode()


def test_a_gauge_stands_where_it_was_set_and_a_histogram_counts() -> None:
    metrics.gauge("transom_breaker_open", 1, dependency="a_test")
    metrics.observe("transom_send_seconds", 0.2, channel="a_test")
    page = metrics.render().decode()
    assert 'transom_breaker_open{dependency="a_test"} 1.0' in page
    assert 'transom_send_seconds_count{channel="a_test"} 1.0' in page


def test_a_metric_of_another_kind_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="no gauge"):
        metrics.gauge("transom_decisions_total", 1)
