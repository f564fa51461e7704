"""Two requests to a broker over a bare socket, for code that has neither a client nor an event loop.

Field layouts: the Kafka protocol guide, https://kafka.apache.org/protocol (Metadata v1, ApiVersions v3).
"""

import socket
import struct
from dataclasses import dataclass

_METADATA, _API_VERSIONS = 3, 18
_FINALIZED_FEATURES = 2
_SECONDS = 2.0
_CLIENT = b"transom-probe"
_SHORTEST_ANSWER, _LONGEST_ANSWER = 4, 1024 * 1024

# metadata.version's highest level per release (kafka.tools.StorageTool version-mapping)
_RELEASES = {25: "4.0", 27: "4.1", 29: "4.2", 30: "4.3", 33: "4.4"}


def serves(host: str, port: int) -> bool:
    """Whether the broker takes part in its cluster: it answers, and its metadata lists a broker."""
    try:
        answer = _Reader(_ask(host, port, _METADATA, 1, _header(_METADATA, 1) + struct.pack(">i", 0)))
    except (OSError, ValueError):
        return False
    return answer.number(">i") > 0


def version(host: str, port: int) -> str:
    """The broker's release, derived from its cluster's ``metadata.version``; a broker does not report its own.

    Raises OSError when the broker does not answer, and ValueError when the answer is malformed.
    """
    name, release = b"transom", b"1"
    body = b"\0" + bytes([len(name) + 1]) + name + bytes([len(release) + 1]) + release + b"\0"
    answer = _Reader(_ask(host, port, _API_VERSIONS, 3, _header(_API_VERSIONS, 3) + body))
    if (error := answer.number(">h")) != 0:
        raise ValueError(f"the broker answered error {error}")
    for _ in range(answer.varint() - 1):
        answer.take(6)
        answer.skip_tags()
    answer.take(4)
    level = answer.finalized_features().get("metadata.version")
    if level is None:
        raise ValueError("the broker reports no metadata.version")
    known = max((at for at in _RELEASES if at <= level), default=None)
    return f"{_RELEASES[known] if known else '3.x'} (metadata.version {level})"


def _header(key: int, version_: int) -> bytes:
    return struct.pack(">hhi", key, version_, 1) + struct.pack(">h", len(_CLIENT)) + _CLIENT


def _ask(host: str, port: int, key: int, version_: int, request: bytes) -> bytes:
    with socket.create_connection((host, port), timeout=_SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _exactly(connection, 4))
        if not _SHORTEST_ANSWER <= size <= _LONGEST_ANSWER:
            raise ValueError(f"an answer of {size} bytes to request {key} v{version_}")
        return _exactly(connection, size)[4:]  # without the correlation id


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (part := connection.recv(size - len(data))):
            raise ConnectionError("the broker hung up")
        data += part
    return data


@dataclass(slots=True)
class _Reader:
    data: bytes
    at: int = 0

    def take(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        if len(part) != size:
            raise ValueError("the broker's answer ended early")
        self.at += size
        return part

    def number(self, layout: str) -> int:
        (value,) = struct.unpack(layout, self.take(struct.calcsize(layout)))
        return int(value)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the bit that says another byte follows
                return value
            shift += 7

    def skip_tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self.take(self.varint())

    def finalized_features(self) -> dict[str, int]:
        """The level of each feature of the cluster, from the answer's tagged fields."""
        for _ in range(self.varint()):
            tag, size = self.varint(), self.varint()
            if tag != _FINALIZED_FEATURES:
                self.take(size)
                continue
            features = {}
            for _ in range(self.varint() - 1):
                name = self.take(self.varint() - 1).decode()
                features[name] = self.number(">h")
                self.take(2)
                self.skip_tags()
            return features
        return {}
