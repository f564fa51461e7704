"""A Redis database for one test.

Numbers are leased in database 0 of the server, so that runs that share a server never share a number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from random import sample
from urllib.parse import urlsplit
from uuid import uuid4

import redis

_LEASE_SECONDS = 600  # longer than any test; a killed run's number is free again after it


@contextmanager
def leased_database(server_url: str, *, seconds: int = _LEASE_SECONDS) -> Iterator[str]:
    """The URL of an empty database that no other test leases until the block ends, within ``seconds``."""
    owner = uuid4().hex
    with redis.Redis.from_url(server_url) as leases:
        count = int(leases.config_get("databases")["databases"])
        key, number = _lease(leases, count, owner, seconds)
        url = urlsplit(server_url)._replace(path=f"/{number}").geturl()
        try:
            with redis.Redis.from_url(url) as mine:
                mine.flushdb()
            yield url
            with redis.Redis.from_url(url) as mine:
                mine.flushdb()
        finally:
            if leases.get(key) == owner.encode():
                leases.delete(key)


def _lease(leases: redis.Redis, count: int, owner: str, seconds: int) -> tuple[str, int]:
    for number in sample(range(1, count), count - 1):
        key = f"transom-test:database:{number}"
        if leases.set(key, owner, nx=True, ex=seconds):
            return key, number
    raise RuntimeError(f"all {count} databases of the server are leased")
