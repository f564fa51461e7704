"""Which failures of PostgreSQL, and of the way to it, are transient.

Transient: the server or the connection is gone, the server starts or stops, it is out of a resource, two transactions
conflict, or a statement reaches its time limit. Every other error of a statement is a bug or a bad record.
"""

import ssl

import asyncpg

REFUSES_TLS = "rejected SSL upgrade"  # asyncpg has no class for it
_TRANSIENT_CLASSES = (
    "08",  # connection
    "40",  # serialization failure, deadlock
    "53",  # insufficient resources: too many connections, disk full, out of memory
    "57",  # operator intervention: shutdown, starting up, statement timeout
    "58",  # system error
)
_TRANSIENT_STATES = (
    "25006",  # read-only transaction: we still speak to the old primary after a failover
    "25P03",  # idle in a transaction for too long: we were stopped meanwhile
    "55P03",  # lock not available within lock_timeout
)
# asyncpg has one class for a lost connection and for a wrong call; only its words distinguish them
_GONE = ("clos", "released back to the pool", "another operation")
_FILES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)  # ours to mend, whatever the time


def slow_db(error: BaseException) -> bool:
    """Whether the server, or an operator, ended a statement that took too long."""
    return isinstance(error, asyncpg.QueryCanceledError)


def locked_db(error: BaseException) -> bool:
    """Whether the server gave up waiting for a lock that another session holds."""
    return isinstance(error, asyncpg.LockNotAvailableError)


def distrusted_db(error: BaseException) -> bool:
    """Whether the server's certificate is refused, or it speaks no TLS though it is asked to: waiting mends neither."""
    return isinstance(error, ssl.SSLCertVerificationError) or (
        isinstance(error, ConnectionError) and REFUSES_TLS in str(error)
    )


def transient_db(error: BaseException) -> bool:
    """Whether the same transaction may well succeed a little later."""
    match error:
        case asyncpg.PostgresError():
            state = error.sqlstate or ""
            if isinstance(error, asyncpg.InvalidCachedStatementError):
                return True  # a column has another type now; the pool has just dropped its statements
            return state.startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT_STATES
        case asyncpg.InterfaceError():
            return any(gone in str(error) for gone in _GONE)
        case OSError() | TimeoutError():
            return not isinstance(error, _FILES)
        case _:
            # of this class: a connection in a state that asyncpg does not expect; the pool makes a new one
            return isinstance(error, asyncpg.InternalClientError)
