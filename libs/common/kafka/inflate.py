"""Compressed batches, inflated within a bound.

A topic's limit counts compressed bytes, and four megabytes may inflate to more than a process's memory. Here a batch
becomes at most ``limit`` bytes, whatever it claims or holds.
"""

import mmap
import zlib
from contextlib import closing
from itertools import pairwise
from typing import Any, Final

import cramjam

LIMIT: Final = 64 * 1024 * 1024

_AS_GZIP = 31  # zlib's word for a gzip header
_STEP = 4096
_XERIAL = bytes([0x82]) + b"SNAPPY\0"
_XERIAL_HEADER = 16


class TooLargeError(Exception):
    """The batch inflates beyond the limit."""


class BrokenError(Exception):
    """The batch is not what its codec writes."""


def inflate(codec: int, payload: bytes, limit: int = LIMIT) -> bytes:
    """The records of a batch. Raises TooLargeError or BrokenError."""
    try:
        match codec:
            case 1:  # as Kafka counts them
                return _gunzip(payload, limit)
            case 2:
                return _unsnap(payload, limit)
            case 3:
                return _into(cramjam.lz4, payload, limit)
            case 4:
                return _into(cramjam.zstd, payload, limit)
            case _:
                raise BrokenError(f"codec {codec} is not known here")
    except (zlib.error, cramjam.DecompressionError, IndexError) as error:
        raise BrokenError(type(error).__name__) from error


def _gunzip(payload: bytes, limit: int) -> bytes:
    """Inflate in steps: zlib copies what follows a member, and a payload may consist of very many empty members."""
    parts: list[bytes] = []
    left, at, end = limit, 0, len(payload.rstrip(b"\0"))
    while at < end:  # several members may follow each other, and zeros the last
        member = zlib.decompressobj(_AS_GZIP)
        while not member.eof:
            step = payload[at : at + _STEP]
            if not step:
                raise BrokenError("the last member has no end")
            if part := member.decompress(step, left + 1):
                left -= len(part)
                if left < 0:
                    raise TooLargeError
                parts.append(part)
            at += len(step) - len(member.unused_data)
    return b"".join(parts)


def _unsnap(payload: bytes, limit: int) -> bytes:
    """Every block says how large it becomes, and becomes no larger."""
    blocks = [payload]
    if payload.startswith(_XERIAL):
        blocks = [payload[begin + 4 : end] for begin, end in pairwise(_block_bounds(payload))]
    if sum(int(cramjam.snappy.decompress_raw_len(block)) for block in blocks) > limit:
        raise TooLargeError
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _block_bounds(payload: bytes) -> list[int]:
    """Where each block's length stands, and the end."""
    bounds = [_XERIAL_HEADER]
    while bounds[-1] < len(payload):
        begin = bounds[-1]
        length = int.from_bytes(payload[begin : begin + 4], "big", signed=True)
        if length < 0 or begin + 4 + length > len(payload):
            raise BrokenError("a block is longer than what is there")
        bounds.append(begin + 4 + length)
    return bounds


def _into(module: Any, payload: bytes, limit: int) -> bytes:
    """Into memory that is made page by page as it is written, and ends at the limit."""
    with closing(mmap.mmap(-1, limit)) as room:
        try:
            length = int(module.decompress_into(payload, room))
        except cramjam.DecompressionError as error:
            if "whole buffer" in str(error):
                raise TooLargeError from None
            raise
        return room[:length]
