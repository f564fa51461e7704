"""The real servers on one machine: Apache Kafka, PostgreSQL and Valkey, out of wheels and jars."""


class ServerError(Exception):
    """A server cannot be started or used. The message is one line: what failed and what to do about it."""
