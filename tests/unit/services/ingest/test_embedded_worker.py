"""What the edge waits for where its worker cannot open PostgreSQL, and what ends both."""

import ssl

import asyncpg
import pytest

from libs.common.errors import ConfigurationError, KafkaUnusable, Transient
from services.ingest.embedded_worker import is_away


def caused(error: Exception, *causes: Exception) -> Exception:
    """``error``, because of the first of these, because of the next."""
    for outer, inner in zip([error, *causes], causes, strict=False):
        outer.__cause__ = inner
    return error


@pytest.mark.parametrize(
    "error",
    [
        caused(ConfigurationError("postgres cannot be used"), ConnectionRefusedError()),
        caused(ConfigurationError("postgres cannot be used"), asyncpg.CannotConnectNowError("it is starting up")),
        caused(ConfigurationError("postgres"), Transient("postgres is away"), asyncpg.ConnectionDoesNotExistError()),
        asyncpg.QueryCanceledError("the schema could not be read in time"),
        TimeoutError(),
    ],
)
def test_a_server_that_is_away_or_slow_is_waited_for(error: Exception) -> None:
    assert is_away(error)


@pytest.mark.parametrize(
    "error",
    [
        caused(ConfigurationError("postgres"), Transient("the schema is older than this build")),
        caused(ConfigurationError("postgres cannot be used"), asyncpg.InvalidPasswordError("no")),
        caused(ConfigurationError("postgres cannot be used"), ssl.SSLCertVerificationError("certificate has expired")),
        caused(ConfigurationError("postgres cannot be used"), ConnectionError('"db:5432" rejected SSL upgrade')),
        caused(KafkaUnusable("the topics are missing"), TimeoutError()),
        asyncpg.UndefinedColumnError("a bug"),
    ],
)
def test_what_somebody_must_mend_is_not(error: Exception) -> None:
    assert not is_away(error)
