"""A link's code is drawn evenly from base62, and only keyed hashes are kept of it and of the text around it."""

import hashlib
import secrets
from collections import Counter

from libs.common.bridge.link_codes import ALPHABET, LinkCodes

KEY, OLDER = b"k" * 32, b"o" * 32


def test_a_code_is_eleven_characters_of_base62() -> None:
    code = LinkCodes([KEY], secrets.choice).fresh().code
    assert len(code) == 11
    assert set(code) <= set(ALPHABET)
    assert len(ALPHABET) == len(set(ALPHABET)) == 62


def test_a_hundred_thousand_guesses_at_a_million_links_find_none() -> None:
    links, guesses = 1_000_000, 100_000
    assert guesses * links / len(ALPHABET) ** 11 < 1 / 500_000_000


def test_no_two_codes_are_alike_and_every_character_turns_up() -> None:
    link_codes = LinkCodes([KEY], secrets.choice)
    codes = [link_codes.fresh().code for _ in range(2_000)]
    assert len(set(codes)) == len(codes)
    assert set(Counter("".join(codes))) == set(ALPHABET)


def test_the_hash_is_made_with_the_newest_key_and_found_with_each() -> None:
    codes = LinkCodes([KEY, OLDER], secrets.choice)
    link, before = codes.fresh(), LinkCodes([OLDER], secrets.choice).fresh()
    assert codes.hashes(link.code)[0] == link.code_hash
    assert before.code_hash in codes.hashes(before.code)
    assert before.code_hash not in LinkCodes([KEY], secrets.choice).hashes(before.code)
    assert link.code.encode() not in link.code_hash


def test_a_text_is_found_again_under_every_key_and_cannot_be_guessed_without_one() -> None:
    text = "AcmeMotors: Update for you. Portal: tflow.link/abc12345678"
    before = LinkCodes([OLDER], secrets.choice).fingerprint(text)
    after = LinkCodes([KEY, OLDER], secrets.choice)
    assert before in after.fingerprints(text)
    assert after.fingerprint(text) in after.fingerprints(text)
    assert before not in LinkCodes([KEY], secrets.choice).fingerprints(text)
    assert hashlib.sha256(text.encode()).digest() not in after.fingerprints(text)


def test_a_text_that_is_a_code_does_not_give_the_link_away() -> None:
    codes = LinkCodes([KEY], secrets.choice)
    assert codes.fingerprint("abc12345678") not in codes.hashes("abc12345678")
