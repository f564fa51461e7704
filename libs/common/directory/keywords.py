"""Words by which a customer switches messages off and on. Pure.

Rule 1: only a whole message is a keyword. Case, accents, width and whatever is no letter or digit around it do not
        matter; "please stop by" is none.
Rule 2: the words of this file mean nothing else to a business that people write to. CANCEL, END, QUIT and YES stand in
        lists of SMS providers, but a customer who is asked about an appointment says them too; they are no keywords on
        WhatsApp.
"""

import re
import unicodedata
from typing import Literal

Keyword = Literal["stop", "start"]

_STOP = frozenset(
    {
        *("stop", "stop all", "stopall", "stop promotions", "stop marketing", "unsubscribe", "opt out", "optout"),
        *("stopp", "abmelden", "abbestellen"),  # German; stopp is Nordic, too
        *("arret", "desabonner", "desinscription"),  # French
        *("baja", "alto", "parar", "pare", "sair", "descadastrar"),  # Spanish, Portuguese
        *("afmelden", "uitschrijven"),  # Dutch
        *("disiscrivi", "cancellami"),  # Italian
        *("avregistrera", "afmeld", "avmeld"),  # Swedish, Danish, Norwegian
    }
)
_START = frozenset({"start", "unstop", "subscribe", "opt in", "optin", "start promotions", "resume promotions"})
_LONGEST = 64
_BETWEEN = re.compile(r"[\W_]+")
_WORD = re.compile(r"[^\W_]+")
_FIRST_WORDS = frozenset(words.partition(" ")[0] for words in _STOP | _START)


def keyword_of(text: str) -> Keyword | None:
    """What the whole text asks for, or None."""
    if len(text) > _LONGEST:
        return None
    plain = text.casefold() if text.isascii() else _without_accents(text)
    first = _WORD.search(plain)
    if first is None or first[0] not in _FIRST_WORDS:  # most texts
        return None
    words = _BETWEEN.sub(" ", plain).strip()
    return "stop" if words in _STOP else "start" if words in _START else None


def _without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(c))
