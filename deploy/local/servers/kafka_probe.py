"""One request to a broker over a bare socket, for code that has neither a client nor an event loop.

Field layouts: the Kafka protocol guide, https://kafka.apache.org/protocol (header v1, Metadata v1).
"""

import socket
import struct

_METADATA = 3
_SECONDS = 2.0
_CLIENT = b"transom-probe"
_SHORTEST_ANSWER, _LONGEST_ANSWER = 6, 1024 * 1024


def serves(host: str, port: int) -> bool:
    """Whether the broker takes part in its cluster: it answers, and its metadata lists a broker."""
    try:
        answer = ask(host, port, _METADATA, 1, struct.pack(">i", 0))
        return bool(struct.unpack_from(">i", answer)[0] > 0)
    except (OSError, ValueError, struct.error):
        return False


def ask(host: str, port: int, api_key: int, version: int, body: bytes) -> bytes:
    """The body of the broker's answer. Raises OSError when it does not answer, ValueError when that is malformed."""
    request = struct.pack(">hhih", api_key, version, 1, len(_CLIENT)) + _CLIENT + body
    with socket.create_connection((host, port), timeout=_SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _exactly(connection, 4))
        if not _SHORTEST_ANSWER <= size <= _LONGEST_ANSWER:
            raise ValueError(f"an answer of {size} bytes to request {api_key} v{version}")
        return _exactly(connection, size)[4:]  # without the correlation id


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (part := connection.recv(size - len(data))):
            raise ConnectionError("the broker hung up")
        data += part
    return data
