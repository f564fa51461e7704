"""Inflating within a bound: whatever a batch claims or holds, no more is ever made."""

import gzip
import subprocess
import sys
from collections.abc import Callable

import cramjam
import pytest
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from hypothesis import given
from hypothesis import strategies as st

from libs.common.kafka.inflate import BrokenError, TooLargeError, inflate

CODECS: dict[int, Callable[[bytes], bytes]] = {
    1: gzip_encode,
    2: snappy_encode,
    3: lz4_encode,
    4: zstd_encode,
}
LIMIT = 100_000


@pytest.mark.parametrize("codec", CODECS)
@given(st.binary(max_size=500), st.integers(1, 100))
def test_what_fits_comes_out_as_it_went_in(codec: int, value: bytes, times: int) -> None:
    assert inflate(codec, CODECS[codec](value * times), LIMIT) == value * times


@pytest.mark.parametrize("codec", CODECS)
def test_the_limit_is_exact(codec: int) -> None:
    assert len(inflate(codec, CODECS[codec](b"x" * LIMIT), LIMIT)) == LIMIT
    with pytest.raises(TooLargeError):
        inflate(codec, CODECS[codec](b"x" * (LIMIT + 1)), LIMIT)


def test_pieces_count_together() -> None:
    half = b"x" * (LIMIT // 2 + 1)
    raw = bytes(cramjam.snappy.compress_raw(half))
    assert inflate(2, raw, LIMIT) == half
    for codec, payload in ((1, gzip_encode(half)), (3, lz4_encode(half)), (4, zstd_encode(half))):
        with pytest.raises(TooLargeError):
            inflate(codec, payload * 2, LIMIT)
    assert inflate(1, gzip.compress(b"a") + gzip.compress(b"b") + bytes(7), LIMIT) == b"ab"


def test_very_many_members_are_read_one_after_the_other() -> None:
    """What follows a member is not copied for each: four megabytes of empty ones would take half a minute, and have ten
    seconds.
    """
    code = """
import gzip, resource
from libs.common.kafka.inflate import inflate
payload = gzip.compress(b"") * 200_000 + gzip.compress(b"the end")
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
print(inflate(1, payload).decode())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (ended.stdout, ended.stderr) == ("the end\n", "")


@pytest.mark.parametrize("codec", [*CODECS, 7])
@pytest.mark.parametrize("cut", [-1, -6, 3])
def test_what_is_not_the_codecs_is_broken(codec: int, cut: int) -> None:
    payload = CODECS.get(codec, gzip_encode)(b"some text, and some more " * 40)[:cut]
    with pytest.raises(BrokenError):
        inflate(codec, payload, LIMIT)


@pytest.mark.parametrize("codec", CODECS)
def test_a_gigabyte_is_never_made(codec: int) -> None:
    """In a process that may have no more than half of one."""
    bomb = {
        1: "gzip.compress(bytes(1 << 20)) * 1024",
        2: (
            "bytes(cramjam.snappy.compress_raw(bytes(1 << 26))).replace(b'\\x80\\x80\\x80\\x20',"
            " b'\\x80\\x80\\x80\\x80\\x04', 1)"
        ),
        3: "bytes(cramjam.lz4.compress(bytes(1 << 26))) * 16",
        4: "bytes(cramjam.zstd.compress(bytes(1 << 26))) * 16",
    }[codec]
    code = f"""
import gzip, resource, cramjam
from libs.common.kafka.inflate import TooLargeError, inflate
bomb = {bomb}
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
try:
    inflate({codec}, bomb)
except TooLargeError:
    print("too large")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.stdout, ended.stderr) == ("too large\n", "")
