import resource
from collections.abc import Iterator

import pytest

from libs.common.bounds import ConnectionLimiter
from libs.common.errors import ConfigurationError
from libs.common.open_files import allow_calls


@pytest.fixture(autouse=True)
def soft_limit() -> Iterator[int]:
    """The limit that a test begins with; the one from before stands again afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, before[1]))
    yield lower
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_to_what_so_many_calls_need(soft_limit: int) -> None:
    allow_calls(soft_limit, "TRANSOM_WHATSAPP_IN_FLIGHT")
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > soft_limit


def test_connections_to_the_http_server_leave_room_for_the_calls() -> None:
    allow_calls(1024, "TRANSOM_WHATSAPP_IN_FLIGHT")
    assert ConnectionLimiter().max_connections + 1024 < resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_a_limit_that_is_high_enough_stays(soft_limit: int) -> None:
    high = 4 * soft_limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (high, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    allow_calls(100, "TRANSOM_WHATSAPP_IN_FLIGHT")
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == high


def test_more_calls_than_the_system_allows_files_are_refused_with_the_settings_name() -> None:
    with pytest.raises(ConfigurationError, match="TRANSOM_WHATSAPP_IN_FLIGHT needs 1000000256 open files"):
        allow_calls(10**9, "TRANSOM_WHATSAPP_IN_FLIGHT")
