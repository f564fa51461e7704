"""Which errors are retryable, and which are timeouts of a single statement.

PostgreSQL's own codes are in ``libs/common/db/errors.py``.
"""

import sys

import aiokafka.errors as kafka
import asyncpg

from libs.common.db.errors import locked_db, slow_db, transient_db
from libs.common.errors import Transient, TransomError

_KAFKA = (
    kafka.KafkaTimeoutError,
    kafka.KafkaConnectionError,
    kafka.KafkaUnavailableError,
    kafka.NoBrokersAvailable,
    kafka.ProducerClosed,
    kafka.CommitFailedError,
)


def is_retryable(error: BaseException) -> bool:
    """Whether the same work may succeed later: a server is away, a deadlock, a lost connection, a timeout.

    Our own classes say it themselves. Of a group every member must be transient.
    """
    match error:
        case TransomError():
            known = isinstance(error, Transient)
        case BaseExceptionGroup():
            known = all(is_retryable(member) for member in error.exceptions)
        case kafka.KafkaError():
            known = bool(error.retriable) or isinstance(error, _KAFKA)
        case asyncpg.PostgresError() | asyncpg.InterfaceError() | asyncpg.InternalClientError() | OSError():
            known = transient_db(error)  # a TimeoutError is an OSError
        case _:
            known = _is_of_redis(error)
    return known


def blames_no_item(error: BaseException) -> bool:
    """Whether other items would fare the same: the error is retryable, or PostgreSQL refuses the role a right."""
    if isinstance(error, BaseExceptionGroup):
        return all(blames_no_item(member) for member in error.exceptions)
    return is_retryable(error) or isinstance(error, asyncpg.InsufficientPrivilegeError)


def _is_of_redis(error: BaseException) -> bool:
    """Whether Redis is away. Half of the services use none, and importing its client costs a tenth of a start."""
    redis = sys.modules.get("redis.exceptions")
    return redis is not None and isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.ReadOnlyError)


def is_statement_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL ended a statement that ran too long, or waited too long for a lock. Fewer items may pass.

    False where no server answers: our own limit ran out, or the connection is lost. The statement did not cause that.
    """
    if isinstance(error, BaseExceptionGroup):
        return is_retryable(error) and any(is_statement_timeout(member) for member in error.exceptions)
    return slow_db(error) or locked_db(error)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether it ran out of time because another session holds a lock."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_lock_timeout(member) for member in error.exceptions)
    return locked_db(error)
