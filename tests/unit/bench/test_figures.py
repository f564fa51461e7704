import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.figures import Figure, Growth, Spread, Target, highest, interpolated, paired_ratio, percentile, steady
from tests.bench.table import markdown, spread

positive = st.floats(min_value=0.01, max_value=1e6)


def of(*values: float) -> Spread:
    return Spread.of(values)


def test_a_ratio_compares_neighbours_so_that_a_slow_minute_slows_both() -> None:
    assert paired_ratio(of(100, 10, 100), of(200, 20, 200)) == 0.5


def test_a_run_without_a_neighbour_is_left_out_of_the_ratio() -> None:
    assert paired_ratio(of(100, 100, 1), of(200, 200)) == 0.5


def test_the_highest_of_each_round_is_told_and_a_series_that_ended_early_does_not_spoil_the_others() -> None:
    assert highest([[1, 5, 2], [3, 4]]) == of(3, 5, 2)


def test_without_a_run_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no run"):
        of()


@pytest.mark.parametrize(
    ("better", "service", "target", "reached"),
    [
        ("more", 60, Target("ratio", 0.6), True),
        ("more", 59.9, Target("ratio", 0.6), False),
        ("less", 150, Target("ratio", 1.5), True),
        ("less", 150.1, Target("ratio", 1.5), False),
        ("more", 1, Target("aim", 3000), None),
    ],
)
def test_a_ratio_is_reached_at_its_bound_and_missed_right_beyond_it_and_an_aim_is_neither(
    *, better: str, service: float, target: Target, reached: bool | None
) -> None:
    assert target.reached(Figure("x", "/s", better, of(service), of(100))) is reached  # type: ignore[arg-type] # a literal


def test_a_ratio_is_not_judged_without_a_floor() -> None:
    assert Target("ratio", 0.6).reached(Figure("x", "/s", "more", of(1))) is None


def test_beside_a_floor_of_nothing_there_is_no_ratio_and_the_table_is_printed_all_the_same() -> None:
    figure = Figure("sending", "µs", "less", of(150, 160), of(100, 0), (Target("ratio", 1.5),))
    assert figure.ratio is None
    assert figure.targets[0].reached(figure) is None
    assert "| sending | 155 (150 to 160) µs | 50 µs |  |" in markdown([figure], [])


def test_fewer_per_second_and_more_milliseconds_are_both_worse() -> None:
    assert Growth("x", "/s", "more", few=of(100), many=of(80)).worse == pytest.approx(0.2)
    assert Growth("x", "ms", "less", few=of(10), many=of(12)).worse == pytest.approx(0.2)
    assert not Growth("x", "ms", "less", few=of(10), many=of(12)).reached
    assert Growth("x", "ms", "less", few=of(10), many=of(9)).reached
    assert Growth("x", "ms", "less", few=of(7, 10), many=of(9, 13)).reached is None
    assert Growth("x", "ms", "less", few=of(7, 10), many=of(11, 13)).reached is False
    assert Growth("x", "/s", "more", few=of(100, 120), many=of(70, 101)).reached is None
    assert Growth("x", "/s", "more", few=of(100, 120), many=of(70, 99)).reached is False


def test_the_first_tenth_of_the_events_does_not_count() -> None:
    slow_start = [0.0, 50.0]
    evenly = [100 + i * 0.5 for i in range(18)]
    found = steady([*evenly, *slow_start])
    assert found.rate == pytest.approx(2.0)
    assert found.begin == 100


def test_a_single_instant_gives_no_rate() -> None:
    with pytest.raises(ValueError, match="too few"):
        steady([1.0, 1.0, 1.0])


@given(st.lists(positive, min_size=1), st.floats(min_value=0, max_value=1))
def test_at_least_the_share_is_not_above_the_percentile(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


@given(st.lists(st.tuples(positive, positive), min_size=1, unique_by=lambda point: point[0]).map(sorted), positive)
def test_a_line_stays_between_its_points(points: list[tuple[float, float]], x: float) -> None:
    heights = [height for _, height in points]
    assert min(heights) * (1 - 1e-9) <= interpolated(points, x) <= max(heights) * (1 + 1e-9)


def test_a_line_goes_through_its_points_and_the_middle_between_them() -> None:
    points = [(0.0, 0.0), (2.0, 10.0)]
    assert [interpolated(points, x) for x in (0, 1, 2, 9)] == [0, 5, 10, 10]


def test_one_run_alone_is_shown_without_extremes() -> None:
    assert spread(of(3120.4), "/s") == "3,120 /s"
    assert spread(of(1, 2, 3), "ms") == "2.0 (1.0 to 3.0) ms"


def test_the_readme_has_what_was_promised_by_name_and_names_what_grew() -> None:
    figures = [
        Figure("sending", "/s", "more", of(3_500), of(5_000), (Target("ratio", 0.7), Target("aim", 4_500))),
        Figure("not promised", "/s", "more", of(1)),
    ]
    growth = [Growth("sending", "/s", "more", of(100), of(80)), Growth("routing", "/s", "more", of(100), of(99))]
    assert markdown(figures, growth).splitlines()[2:] == [
        "| sending | 3,500 /s | 5,000 /s | 70% | ≥ 70% of floor: reached; aim: ≥ 4,500 /s |",
        "",
        "Growth: 1 of 2 figures within 10%; the others: sending (+20%: missed).",
    ]
