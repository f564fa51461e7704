"""Is it expected trouble, that time mends? The one place that knows the libraries' exceptions."""

import aiokafka.errors as kafka
import asyncpg
import redis.exceptions as redis

from libs.common.errors import Transient, TransomError

_KAFKA = (
    kafka.KafkaTimeoutError,
    kafka.KafkaConnectionError,
    kafka.KafkaUnavailableError,
    kafka.NoBrokersAvailable,
    kafka.ProducerClosed,
    kafka.CommitFailedError,
)
_POSTGRES = (
    asyncpg.PostgresConnectionError,  # 08: the connection broke or cannot be made
    asyncpg.TransactionRollbackError,  # 40: deadlock, serialization
    asyncpg.OperatorInterventionError,  # 57: shutdown, crash, starting up, cancelled by a timeout
    asyncpg.InsufficientResourcesError,  # 53: too many connections, disk full
    asyncpg.PostgresSystemError,  # 58: input or output failed on the server
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,  # a connection in a state that asyncpg does not expect: the pool makes a new one
    asyncpg.ReadOnlySQLTransactionError,  # a fail-over: this server has just become a replica
)
_REDIS = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError)

_FILES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)  # ours to mend, whatever the time

# asyncpg has one class for a lost connection and for a wrong call; only its words tell them apart
_LOST_CONNECTION = ("clos", "released", "another operation", "unexpected")


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed later: a server is away, a deadlock, a lost connection, a timeout.

    Our own classes decide for themselves. Of a group every member must be transient.
    """
    match error:
        case TransomError():
            known = isinstance(error, Transient)
        case BaseExceptionGroup():
            known = all(is_transient(member) for member in error.exceptions)
        case kafka.KafkaError():
            known = bool(error.retriable) or isinstance(error, _KAFKA)
        case asyncpg.InterfaceError():
            known = any(word in str(error) for word in _LOST_CONNECTION)
        case TimeoutError() | OSError():
            known = not isinstance(error, _FILES)
        case _:
            known = isinstance(error, _POSTGRES + _REDIS)
    return known
