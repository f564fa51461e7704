import re

from prometheus_client import Counter, Gauge, Histogram

from libs.common import metrics


def test_every_declared_metric_is_rendered_under_a_name_of_ours() -> None:
    declared = [one for one in vars(metrics).values() if isinstance(one, Counter | Gauge | Histogram)]
    names = {family.name for one in declared for family in one.collect()}
    assert len(names) == len(declared) > 10
    page = metrics.render().decode()
    for name in names:
        assert re.search(rf"^# TYPE {name}(_total)? ", page, re.MULTILINE), name
        assert name.startswith("transom_")


def test_counting_adds_up() -> None:
    metrics.DECISIONS.labels(route="bridge", reason="a_test").inc(2)
    metrics.DECISIONS.labels(route="bridge", reason="a_test").inc()
    assert 'transom_decisions_total{reason="a_test",route="bridge"} 3.0' in metrics.render().decode()
