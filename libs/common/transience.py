"""Is it expected trouble, that time mends? What PostgreSQL says is judged in ``libs/common/db/errors.py``."""

import aiokafka.errors as kafka
import asyncpg
import redis.exceptions as redis

from libs.common.db.errors import transient_db
from libs.common.errors import Transient, TransomError

_KAFKA = (
    kafka.KafkaTimeoutError,
    kafka.KafkaConnectionError,
    kafka.KafkaUnavailableError,
    kafka.NoBrokersAvailable,
    kafka.ProducerClosed,
    kafka.CommitFailedError,
)
_REDIS = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError)

_FILES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)  # ours to mend, whatever the time


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
        case asyncpg.PostgresError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
            known = transient_db(error)
        case TimeoutError() | OSError():
            known = not isinstance(error, _FILES)
        case _:
            known = isinstance(error, _REDIS)
    return known
