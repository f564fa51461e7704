"""What an edge remembers of what it refused."""

from hypothesis import given
from hypothesis import strategies as st

from libs.common.sending.coverage import RefusalKind
from services.ingest.edge_coverage import JOIN, MOST, Refusals


def test_a_storm_is_one_stretch() -> None:
    refusals = Refusals()
    for n in range(10_000):
        refusals.happened("refused", "kafka_away", 100 + n / 10_000)
    [told] = refusals.unstored()
    assert (told.began, round(told.ended, 3), told.times) == (100, 101, 10_000)


def test_what_is_stored_is_told_again_only_when_it_has_grown() -> None:
    refusals = Refusals()
    refusals.happened("refused", "kafka_away", 100)
    refusals.stored(refusals.unstored())
    assert refusals.unstored() == []
    refusals.happened("refused", "kafka_away", 100 + JOIN)
    [grown] = refusals.unstored()
    assert (grown.number, grown.times) == (0, 2)
    refusals.stored([grown])
    refusals.happened("refused", "not_ready", 101 + 2 * JOIN)
    assert [(one.number, one.reason) for one in refusals.unstored()] == [(1, "not_ready")]


def test_what_happens_while_it_is_stored_is_told_next() -> None:
    refusals = Refusals()
    refusals.happened("refused", "kafka_away", 100)
    told = refusals.unstored()
    refusals.happened("refused", "kafka_away", 101)
    refusals.stored(told)
    assert [one.ended for one in refusals.unstored()] == [101]


EVENTS = st.lists(st.tuples(st.sampled_from(["refused", "doubtful"]), st.integers(0, 200), st.booleans()), max_size=400)


@given(EVENTS)
def test_nothing_is_forgotten_however_long_nothing_can_be_stored(events: list[tuple[RefusalKind, int, bool]]) -> None:
    refusals, at = Refusals(), 0.0
    table: dict[int, tuple[RefusalKind, float, float]] = {}
    happened: list[tuple[RefusalKind, float]] = []

    def store() -> None:
        told = refusals.unstored()
        table.update({one.number: (one.kind, one.began, one.ended) for one in told})
        refusals.stored(told)

    for kind, wait, stores in events:
        at += wait
        refusals.happened(kind, "kafka_away", at)
        happened.append((kind, at))
        if stores and wait % 10 == 0:
            store()
        assert len(refusals.unstored()) <= MOST
    store()
    for kind, moment in happened:
        assert any(k == kind and began <= moment <= ended for k, began, ended in table.values())
    for kind in ("refused", "doubtful"):
        last = max((moment for k, moment in happened if k == kind), default=None)
        assert max((ended for k, _, ended in table.values() if k == kind), default=None) == last
