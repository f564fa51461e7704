"""A link's code is drawn evenly from base62, and only keyed hashes are kept of it and of the text around it."""

import hashlib
import hmac
import secrets
from collections import Counter

from libs.common.bridge.link_codes import ALPHABET, LinkCodes, code_hash


def test_a_code_is_eight_characters_of_base62() -> None:
    code = LinkCodes([b"key"], secrets.choice).fresh().code
    assert len(code) == 8
    assert set(code) <= set(ALPHABET)
    assert len(ALPHABET) == len(set(ALPHABET)) == 62


def test_no_two_codes_are_alike_and_every_character_turns_up() -> None:
    link_codes = LinkCodes([b"key"], secrets.choice)
    codes = [link_codes.fresh().code for _ in range(2_000)]
    assert len(set(codes)) == len(codes)
    assert set(Counter("".join(codes))) == set(ALPHABET)


def test_the_hash_is_made_with_the_newest_key() -> None:
    link = LinkCodes([b"newest", b"older"], secrets.choice).fresh()
    assert link.code_hash == hmac.new(b"newest", link.code.encode(), hashlib.sha256).digest()
    assert link.code_hash != code_hash(link.code, b"older")
    assert link.code.encode() not in link.code_hash


def test_a_text_is_found_again_under_every_key_and_cannot_be_guessed_without_one() -> None:
    text = "AcmeMotors: Update for you. Portal: tflow.link/abc12345"
    before = LinkCodes([b"older"], secrets.choice).fingerprint(text)
    after = LinkCodes([b"newest", b"older"], secrets.choice)
    assert before in after.fingerprints(text)
    assert after.fingerprint(text) in after.fingerprints(text)
    assert before not in LinkCodes([b"newest"], secrets.choice).fingerprints(text)
    assert hashlib.sha256(text.encode()).digest() not in after.fingerprints(text)


def test_a_text_that_is_a_code_does_not_give_the_link_away() -> None:
    assert LinkCodes([b"key"], secrets.choice).fingerprint("abc12345") != code_hash("abc12345", b"key")
