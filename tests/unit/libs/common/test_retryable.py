import socket

import aiokafka.errors as kafka
import asyncpg
import pytest
import redis.exceptions as redis

from libs.common.errors import ConfigurationError, Permanent, Transient, Undecodable
from libs.common.retryable import blames_no_item, is_lock_timeout, is_retryable, is_statement_timeout

EXPECTED = [
    Transient("away"),
    TimeoutError(),
    TimeoutError(),
    ConnectionRefusedError(),
    ConnectionResetError(),
    BrokenPipeError(),
    socket.gaierror(),
    kafka.KafkaTimeoutError(),
    kafka.NotEnoughReplicasError(),
    kafka.KafkaConnectionError(),
    kafka.LeaderNotAvailableError(),
    kafka.CommitFailedError(),
    asyncpg.DeadlockDetectedError("deadlock detected"),
    asyncpg.SerializationError("could not serialize"),
    asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    asyncpg.CannotConnectNowError("the database system is starting up"),
    asyncpg.AdminShutdownError("terminating connection"),
    asyncpg.QueryCanceledError("canceling statement due to statement timeout"),
    asyncpg.TooManyConnectionsError("sorry, too many clients already"),
    asyncpg.DiskFullError("could not extend file"),
    asyncpg.InvalidCachedStatementError("cached plan must not change result type"),
    asyncpg.InterfaceError("pool is closing"),
    asyncpg.InterfaceError("cannot perform operation: connection is closed"),
    asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
    redis.ConnectionError(),
    redis.TimeoutError(),
    redis.BusyLoadingError(),
    ExceptionGroup("two tasks", [TimeoutError(), ConnectionResetError()]),
]
NOT = [
    Permanent("never"),
    Undecodable("not_json"),
    ConfigurationError("no"),
    ValueError(),
    KeyError(),
    AssertionError(),
    FileNotFoundError(),
    PermissionError(),
    kafka.MessageSizeTooLargeError(),
    kafka.TopicAuthorizationFailedError(),
    asyncpg.UniqueViolationError("duplicate key"),
    asyncpg.UndefinedColumnError("column x does not exist"),
    asyncpg.DataError("invalid byte sequence"),
    asyncpg.CharacterNotInRepertoireError("0x00"),
    asyncpg.InterfaceError("the server expects 2 arguments for this query, 1 was passed"),
    redis.ResponseError("WRONGTYPE"),
    ExceptionGroup("two tasks", [TimeoutError(), ValueError()]),
]


@pytest.mark.parametrize("error", EXPECTED, ids=repr)
def test_expected_trouble_is_transient(error: BaseException) -> None:
    assert is_retryable(error)


@pytest.mark.parametrize("error", NOT, ids=repr)
def test_what_time_does_not_mend_is_not_transient(error: BaseException) -> None:
    assert not is_retryable(error)


NO_RIGHT = asyncpg.InsufficientPrivilegeError("permission denied for table messages")


@pytest.mark.parametrize(
    "error", [*EXPECTED, NO_RIGHT, ExceptionGroup("two tasks", [NO_RIGHT, TimeoutError()])], ids=repr
)
def test_no_item_is_blamed_for_what_meets_all(error: BaseException) -> None:
    assert blames_no_item(error)


@pytest.mark.parametrize("error", [*NOT, ExceptionGroup("two tasks", [NO_RIGHT, ValueError()])], ids=repr)
def test_an_item_is_blamed_for_everything_else(error: BaseException) -> None:
    assert not blames_no_item(error)


SLOW = asyncpg.QueryCanceledError("canceling statement due to statement timeout")
LOCKED = asyncpg.LockNotAvailableError("canceling statement due to lock timeout")


def test_a_statement_at_its_limit_is_told_apart_from_a_server_that_is_away() -> None:
    slow = [SLOW, LOCKED, ExceptionGroup("two tasks", [SLOW, ConnectionResetError()])]
    assert all(is_statement_timeout(error) and is_retryable(error) for error in slow)
    others = [*NOT, *(error for error in EXPECTED if not isinstance(error, asyncpg.QueryCanceledError))]
    assert not any(
        is_statement_timeout(error) for error in [*others, ExceptionGroup("two tasks", [SLOW, ValueError()])]
    )


def test_waiting_for_a_lock_is_told_apart_from_taking_long() -> None:
    assert is_lock_timeout(LOCKED)
    assert is_lock_timeout(ExceptionGroup("two tasks", [LOCKED]))
    assert not is_lock_timeout(SLOW)
