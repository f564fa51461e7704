"""From when on silence proves something."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from libs.common.sending.coverage import HELD, CaughtUp, Cover, Edge, Waits, quiet

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
WAITS = Waits(grace=30 * SECOND, settling=300 * SECOND)
SERVES = Edge(NOW - DAY, NOW)
READ = {0: CaughtUp(NOW, NOW - DAY), 1: CaughtUp(NOW, NOW - DAY)}


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def proves(
    cover: Cover, claimed: float = 40, *, progress: dict[int, CaughtUp] | None = None, partitions: int = 2
) -> bool:
    stretch = quiet(cover, READ if progress is None else progress, partitions, WAITS, NOW)
    return stretch is not None and stretch.proves(ago(claimed))


def test_a_night_without_a_post_is_no_outage() -> None:
    assert proves(Cover([SERVES]), 30)
    assert not proves(Cover([SERVES]), 29)


def test_after_a_refusal_the_grace_begins_settling_later() -> None:
    assert not proves(Cover([SERVES], refused_at=ago(329)), DAY.total_seconds())
    assert proves(Cover([SERVES], refused_at=ago(330)), DAY.total_seconds())


def test_an_acceptance_that_came_late_is_as_good_as_an_outage() -> None:
    assert not proves(Cover([SERVES], late_at=ago(329)), 5000)
    assert proves(Cover([SERVES], late_at=ago(330)), 5000)


def test_since_somebody_serves_again_counts_after_nobody_did() -> None:
    gone = Edge(NOW - DAY, ago(600), left=True)
    assert not proves(Cover([gone, Edge(ago(329), NOW)]), 5000)
    assert proves(Cover([gone, Edge(ago(330), NOW)]), 5000)


def test_the_first_start_of_all_is_no_outage_to_a_call_that_was_made_after_it() -> None:
    new = Edge(ago(100), NOW)
    assert proves(Cover([new]), 30)
    assert not proves(Cover([new]), 101), "claimed before: perhaps served by a release that told nothing"
    assert not proves(Cover([new], served_before=True), 30)
    assert not proves(Cover([new, Edge(NOW - DAY, ago(101), left=True)]), 30)


def test_a_rolling_restart_with_overlap_is_no_outage() -> None:
    first, second = Edge(NOW - DAY, ago(50), left=True), Edge(ago(60), ago(20), left=True)
    assert proves(Cover([first, second, Edge(ago(21), NOW)]))
    assert not proves(Cover([first, second, Edge(ago(19), NOW)]))


def test_an_edge_that_vanished_may_have_refused_for_a_while_whoever_else_served() -> None:
    assert WAITS.noticed == 30 * SECOND
    assert not proves(Cover([SERVES, Edge(NOW - DAY, ago(359))]), 5000)
    assert proves(Cover([SERVES, Edge(NOW - DAY, ago(360))]), 5000)


def test_an_edge_that_was_scaled_down_in_order_holds_up_nothing() -> None:
    assert proves(Cover([SERVES, Edge(NOW - DAY, ago(35), left=True)]))


def test_nothing_counts_beyond_what_every_edge_has_stored() -> None:
    assert not proves(Cover([SERVES, Edge(NOW - DAY, ago(11))]), 40)
    assert proves(Cover([SERVES, Edge(NOW - DAY, ago(10))]), 40)


def test_nothing_is_proved_where_no_edge_or_no_partition_is_known() -> None:
    assert not proves(Cover([]), 5000)
    assert not proves(Cover([SERVES]), 5000, progress={})
    assert not proves(Cover([SERVES]), 5000, partitions=0)
    assert not proves(Cover([Edge(NOW - DAY, NOW, left=True)]), 5000)


def test_a_partition_without_a_row_is_not_caught_up() -> None:
    assert not proves(Cover([SERVES]), 5000, partitions=3)
    assert proves(Cover([SERVES]), 5000, progress=READ | {7: CaughtUp(NOW - DAY, NOW - DAY)})  # not of the topic


def test_what_was_stored_before_the_clock_was_set_back_proves_nothing() -> None:
    """A killed edge, or a worker that is away, would count as at work until the clock is there again."""
    later = NOW + timedelta(hours=1)
    assert not proves(Cover([Edge(NOW - DAY, later)]))
    assert not proves(Cover([SERVES]), progress=READ | {1: CaughtUp(later, NOW - DAY)})


def test_one_partition_behind_makes_silence_worthless() -> None:
    assert not proves(Cover([SERVES]), 5000, progress=READ | {1: CaughtUp(ago(7200), NOW - DAY)})
    assert not proves(Cover([SERVES]), 5000, progress=READ | {1: CaughtUp(NOW, ago(29))})


def test_a_post_that_came_to_kafka_late_must_have_been_read_too() -> None:
    """The webhook was in flight when the silence became long enough: earlier reads say nothing of it."""

    def proved(posted: float, read: float) -> bool:
        progress = {0: CaughtUp(ago(read), NOW - DAY)}
        return proves(Cover([Edge(NOW - DAY, NOW, posted_at=ago(posted))]), 40, progress=progress, partitions=1)

    assert not proved(posted=8, read=9), "proved 10 s ago, it came a second after what is read"
    assert proved(posted=8, read=8)
    assert proved(posted=11, read=10), "nothing came after that"
    held = HELD.total_seconds()
    assert not proved(posted=0, read=10 - held + 0.1)
    assert proved(posted=0, read=10 - held), "what came later was begun later: a busy edge holds back nothing for long"


def test_a_post_of_an_edge_that_has_left_must_have_been_read_too() -> None:
    left = Edge(NOW - DAY, ago(5), left=True, posted_at=ago(8))
    assert not proves(Cover([SERVES, left]), 40, progress={0: CaughtUp(ago(9), NOW - DAY)}, partitions=1)
    assert proves(Cover([SERVES, left]), 40, progress={0: CaughtUp(ago(8), NOW - DAY)}, partitions=1)


def test_what_anybody_may_have_sent_holds_back_for_an_hour_at_most() -> None:
    assert WAITS.doubt == timedelta(hours=1)
    assert not proves(Cover([SERVES], doubted_at=NOW), 3629)
    assert proves(Cover([SERVES], doubted_at=NOW), 3630)
    assert not proves(Cover([SERVES], refused_at=NOW), 3630)


# ── Laws
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

SECONDS = st.integers(0, 900).map(float)


INSTANTS = st.none() | SECONDS.map(ago)


@st.composite
def an_edge(draw: st.DrawFn) -> Edge:
    until = draw(st.integers(0, 900) | st.just(0))
    since = until + draw(st.integers(0, 900) | st.just(90_000))
    return Edge(ago(since), ago(until), draw(st.booleans()), draw(INSTANTS))


@st.composite
def a_partition(draw: st.DrawFn) -> CaughtUp:
    at = draw(st.integers(0, 60) | st.just(0))
    return CaughtUp(ago(at), ago(at + draw(st.integers(0, 900) | st.just(90_000))))


COVERS = st.builds(
    Cover,
    st.lists(an_edge(), max_size=5).map(lambda more: [SERVES, *more]) | st.lists(an_edge(), max_size=5),
    INSTANTS,
    INSTANTS,
    INSTANTS,
    st.booleans(),
)
PROGRESS = st.lists(a_partition() | st.just(READ[0]), min_size=1, max_size=3)


def covered(edges: Sequence[Edge], at: datetime) -> bool:
    return any(edge.since <= at <= edge.until for edge in edges)


@given(cover=COVERS, progress=PROGRESS, claimed=SECONDS)
def test_no_moment_of_what_is_counted_is_one_at_which_a_status_could_not_come(
    cover: Cover, progress: list[CaughtUp], claimed: float
) -> None:
    stretch = quiet(cover, dict(enumerate(progress)), len(progress), WAITS, NOW)
    if stretch is None or not stretch.proves(ago(claimed)):
        return
    end, begin = stretch.until, stretch.proven_at(ago(claimed)) - WAITS.grace
    assert end - begin >= WAITS.grace
    assert begin >= ago(claimed)
    # so long before somebody must have served, too: then Meta has tried again
    settled = (
        begin if stretch.first_served is not None and stretch.first_served <= ago(claimed) else begin - WAITS.settling
    )
    ends = [edge.until + timedelta(microseconds=1) for edge in cover.edges]
    for at in [settled, end, *(at for at in ends if settled <= at <= end)]:
        assert covered(cover.edges, at)
    for told in (cover.refused_at, cover.late_at):
        assert told is None or told <= begin - WAITS.settling
    proven = begin + WAITS.grace
    assert all(partition.since <= begin and proven <= partition.at for partition in progress)
    came = [edge.posted_at for edge in cover.edges if edge.posted_at is not None and edge.posted_at <= proven + HELD]
    assert all(at <= partition.at for at in came for partition in progress)
    for edge in cover.edges:
        alive = not edge.left and NOW - edge.until <= WAITS.noticed
        assert not alive or edge.until >= end
        assert edge.left or alive or edge.until + WAITS.noticed + WAITS.settling <= begin


@given(cover=COVERS, progress=PROGRESS, claimed=SECONDS, later=st.integers(0, 900))
def test_what_is_proved_stays_proved_while_nothing_happens(
    cover: Cover, progress: list[CaughtUp], claimed: float, later: int
) -> None:
    def at(after: timedelta) -> bool:
        edges = [
            edge if edge.left or NOW - edge.until > WAITS.noticed else replace(edge, until=edge.until + after)
            for edge in cover.edges
        ]
        read = {n: replace(partition, at=partition.at + after) for n, partition in enumerate(progress)}
        stretch = quiet(replace(cover, edges=edges), read, len(read), WAITS, NOW + after)
        return stretch is not None and stretch.proves(ago(claimed))

    assert at(later * SECOND) or not at(0 * SECOND)


@given(cover=COVERS, progress=PROGRESS, claimed=SECONDS, refused=SECONDS)
def test_to_know_of_one_more_refusal_proves_nothing_more(
    cover: Cover, progress: list[CaughtUp], claimed: float, refused: float
) -> None:
    def proved(of: Cover) -> bool:
        stretch = quiet(of, dict(enumerate(progress)), len(progress), WAITS, NOW)
        return stretch is not None and stretch.proves(ago(claimed))

    more = replace(cover, refused_at=max(ago(refused), cover.refused_at or ago(refused)))
    assert proved(cover) or not proved(more)
