"""GSM 03.38, the alphabet of SMS: how a text is converted to it, and how many segments it costs. Pure.

Rule 1: a character of the basic table costs one septet, one of the extension table two (with its escape).
Rule 2: one character outside both makes the whole message UCS-2: 70 characters in a segment instead of 160.
Rule 3: ``transliterate`` never fails, and its result is GSM-7. Letters get a Latin form, one by one. Emoji and symbols
        are dropped and never spelled out.
Rule 4: ``economical`` changes punctuation, spaces and invisible characters alone, and only where that makes the whole
        text GSM-7. A letter and its accent become one character (NFC). No letter is changed otherwise.

anyascii is asked for single letters that neither the tables here nor Unicode's own decompositions and names write. It
knows every script. Of whole texts it would spell emoji out (`:car:`) and flatten é, ü and ñ, which GSM-7 has.

Source: 3GPP TS 23.038, sections 6.2.1 and 6.2.1.1.
"""

# ruff: noqa: RUF001 -- the module is about look-alikes

import re
import unicodedata
from functools import lru_cache
from math import ceil

from anyascii import anyascii

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The basic table without its escape, which announces the extension table and is no character of its own."""
EXTENSION = frozenset("^{}\\[~]|€")
"""The extension table without its form feed, which no handset shows."""

SEGMENT_SEPTETS = 160
PART_SEPTETS = 153
SEGMENT_UNITS = 70
PART_UNITS = 67
_EXTENSION_COST = 2
_PRINTABLE_BASIC = BASIC - {"\n", "\r"}

# Characters that Unicode does not decompose, or not as a reader expects.
_SPECIAL = {
    **dict.fromkeys("‘’‚‛‹›`´′ʹʻʼʽ", "'"),
    **dict.fromkeys("“”„‟«»″", '"'),
    **dict.fromkeys("−‐‑‒–—―", "-"),
    **dict.fromkeys("•∙◦", "*"),
    **dict(re.findall(r"(\S)=(\S+)", "…=... ·=. ⁄=/ ×=x ÷=/ ±=+- ¦=| ¢=c ₤=£ µ=u")),
    **dict(re.findall(r"(\S)=(\S+)", "ı=i œ=oe Œ=OE ẞ=SS þ=th Þ=Th ð=d Ð=D ŋ=ng Ŋ=Ng ə=e Ə=E ĸ=k")),
}

# GSM-7 has the ten Greek capitals that look like no Latin letter, so Greek is written in capitals, as handsets do.
_GREEK = dict(zip("αβγδεζηθικλμνξοπρσςτυφχψω", "ABΓΔEZHΘIKΛMNΞOΠPΣΣTYΦXΨΩ", strict=True))

_CYRILLIC = dict(
    re.findall(
        r"(\S)=(\S*)",
        "а=a б=b в=v г=g ґ=g д=d ђ=dj е=e ё=e є=ie ж=zh з=z и=i й=y і=i ї=yi ј=j к=k л=l љ=lj м=m н=n њ=nj о=o п=p"
        " р=r с=s т=t ћ=c у=u ў=u ф=f х=kh ц=ts ч=ch џ=dz ш=sh щ=shch ъ= ы=y ь= э=e ю=yu я=ya ѓ=g ѕ=dz ќ=k",
    )
)

_TABLE: dict[str, str] = (
    _SPECIAL
    | _CYRILLIC
    | {letter.upper(): latin.capitalize() for letter, latin in _CYRILLIC.items()}
    | _GREEK
    | {letter.upper(): written for letter, written in _GREEK.items()}
)

# Punctuation that word processors and phones insert by themselves, and its plain form.
_PLAIN = {char: plain for char, plain in _SPECIAL.items() if plain in ("'", '"', "-", "...")}
_PLAIN["\t"] = " "
_BY_CATEGORY = {"Zs": " ", "Zl": "\n", "Zp": "\n", "Pd": "-", "Cf": ""}
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Fillers and joiners that show nothing, though Unicode has them as letters or marks."""
_UNSEEN_MARKS = re.compile("[\ufe00-\ufe0f\u180b-\u180d]")

_LETTERS = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mc", "Mn"})
"""Letters, and the signs that stand for vowels in many scripts."""
_LATIN = re.compile(r"LATIN (?P<case>SMALL|CAPITAL) LETTER (?P<letter>[A-Z]{1,2}) WITH ")
_SPACES = re.compile(r"\s+")


def fits(text: str) -> bool:
    """Whether every character of the text is in one of the two tables."""
    return all(char in BASIC or char in EXTENSION for char in text)


def septets(text: str) -> int:
    """The number of septets that the text takes.

    Raises ValueError for a text outside the alphabet. The character is not named, because it may be private.
    """
    if not fits(text):
        raise ValueError("the text holds a character outside GSM-7")
    return sum(_EXTENSION_COST if char in EXTENSION else 1 for char in text)


def segments(text: str) -> int:
    """How many segments an operator makes of the text: GSM-7 when it fits, UCS-2 otherwise. An empty text is one.

    No escape and no surrogate pair is split between two parts.
    """
    if fits(text):
        return _parts([_EXTENSION_COST if c in EXTENSION else 1 for c in text], SEGMENT_SEPTETS, PART_SEPTETS)
    return _parts([2 if ord(c) > 0xFFFF else 1 for c in text], SEGMENT_UNITS, PART_UNITS)  # noqa: PLR2004 -- the BMP's end


def economical(text: str) -> str:
    """The text as it is sent: with plain punctuation and spaces, where that alone makes it GSM-7.

    Otherwise it is unchanged.
    """
    if fits(text):
        return text
    plain = "".join(map(_plain, unicodedata.normalize("NFC", text)))
    plain = unicodedata.normalize("NFC", plain)  # a mark may have stood between a letter and its accent
    return plain if fits(plain) else text


def transliterate(text: str) -> str:
    """The text in GSM-7's printable characters, on one line, with single spaces and none at either end."""
    composed = _SPACES.sub(" ", unicodedata.normalize("NFC", text))
    return _SPACES.sub(" ", "".join(map(_in_gsm7, composed))).strip(" ")


def shorten(text: str, limit: int) -> str:
    """The longest beginning of a GSM-7 text that costs at most ``limit`` septets, without a space at its end."""
    left = limit
    for index, char in enumerate(text):
        left -= _EXTENSION_COST if char in EXTENSION else 1
        if left < 0:
            return text[:index].rstrip(" ")
    return text


def _parts(costs: list[int], alone: int, part: int) -> int:
    if sum(costs) <= alone:
        return 1
    if max(costs) == 1:
        return ceil(len(costs) / part)
    parts, used = 1, 0
    for cost in costs:
        if used + cost > part:
            parts, used = parts + 1, 0
        used += cost
    return parts


@lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    """The plain form of a space, a hyphen or a quote, nothing for an invisible character, else the character."""
    if char in BASIC or char in EXTENSION:
        return char
    if char in _UNSEEN or _UNSEEN_MARKS.match(char):
        return ""
    written = _PLAIN.get(char)
    return _BY_CATEGORY.get(unicodedata.category(char), char) if written is None else written


@lru_cache(maxsize=4096)
def _in_gsm7(char: str) -> str:
    if char in _PRINTABLE_BASIC or char in EXTENSION:
        return char
    if (simple := _simply(char)) is not None:
        return simple
    if unicodedata.category(char) == "So" and char != "№":
        return ""
    decomposed = unicodedata.normalize("NFKD", char)
    if not _is_simple(decomposed[0]) and (letter := _letter(char)):  # a syllable of Hangul is one sound
        return letter
    return "" if decomposed == char else "".join(map(_part_in_gsm7, decomposed))


def _part_in_gsm7(char: str) -> str:
    if char in _PRINTABLE_BASIC or char in EXTENSION:
        return char
    simple = _simply(char)
    return _letter(char) if simple is None else simple


def _is_simple(char: str) -> bool:
    return char in _PRINTABLE_BASIC or char in EXTENSION or _simply(char) is not None


def _letter(char: str) -> str:
    """A letter in Latin ones, or a vowel sign that stands for one; empty for anything else."""
    if unicodedata.category(char) not in _LETTERS:
        return ""
    return "".join(c for c in anyascii(char) if c in _PRINTABLE_BASIC)


def _simply(char: str) -> str | None:
    """The Latin form of one character, by the table, else by Unicode's data; None when neither has one."""
    if (written := _TABLE.get(char)) is not None:
        return written
    match unicodedata.category(char):
        case "Pd":
            return "-"
        case "Nd":
            return str(unicodedata.decimal(char))
        case "Ll" | "Lu" | "Lt":
            return _by_name(char)
        case _:
            return None


def _by_name(char: str) -> str | None:
    """``L`` for LATIN CAPITAL LETTER L WITH STROKE.

    None without such a name, or where Unicode decomposes the letter.
    """
    if unicodedata.decomposition(char):
        return None
    found = _LATIN.match(unicodedata.name(char, ""))
    if found is None:
        return None
    letter = found["letter"]
    return letter if found["case"] == "CAPITAL" else letter.lower()
