"""One key for each purpose, as RFC 5869 derives them: what is known of one says nothing of another."""

import hashlib
import hmac

from libs.common.bridge.portal_keys import PurposeKeys, derive

NEW, OLD = b"n" * 32, b"o" * 40


def test_a_key_is_the_hkdf_of_its_master_and_purpose() -> None:
    extracted = hmac.new(b"transom portal v1", NEW, hashlib.sha256).digest()
    assert derive(NEW, "codes") == hmac.new(extracted, b"codes\x01", hashlib.sha256).digest()


def test_no_two_purposes_and_no_two_masters_share_a_key() -> None:
    made = [
        derive(key, purpose) for key in (NEW, OLD) for purpose in ("codes", "texts", "sessions", "csrf", "addresses")
    ]
    assert len({*made, NEW, OLD}) == 12


def test_the_newest_key_hashes_and_every_key_recognises() -> None:
    keys, before = PurposeKeys([NEW, OLD], "csrf"), PurposeKeys([OLD], "csrf")
    assert keys.made(b"a form", before.hash(b"a form"))
    assert keys.made(b"a form", keys.hash(b"a form"))
    assert not before.made(b"a form", keys.hash(b"a form"))
    assert not keys.made(b"another form", keys.hash(b"a form"))
    assert not keys.made(b"a form", PurposeKeys([NEW, OLD], "sessions").hash(b"a form"))
