"""Words by which a customer switches SMS off and on. Pure.

Rule 1: only a whole text is a keyword, but for case, spaces and one final dot. "please stop" is none. STOP counts
        also between quotes and behind exclamation marks: who shouts it means it.
Rule 2: STOP, START and UNSTOP count everywhere. Other words count in the languages of the organisation's country.
Rule 3: Twilio opts customers out and in by itself, by its own English words in every country. So these count for a
        text that came by Twilio, and both sides agree.
Rule 4: YES is an answer to a question as well. It counts as START only where the customer's STOP stands.

Source: https://help.twilio.com/articles/223134027-Twilio-support-for-opt-out-keywords-SMS-STOP-filtering-.
"""

import re
import unicodedata
from typing import Final, Literal

from libs.common.directory.keywords import Keyword

_LONGEST = 64
_LONGEST_TEXT = 10_000
"""Of a text with its spaces. No SMS is longer."""
_MARKS = re.compile("[\u034f\u180b-\u180d\ufe00-\ufe0f]")
"""Marks that show nothing, and that phones write behind a word."""
_AROUND: Final = "!.,*'\"\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u00a1"
_EVERYWHERE: Final = frozenset({"stop"})
_STARTS: Final = frozenset({"start", "unstop"})
_TWILIO: Final = frozenset({"stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout", "opt-out"})
_TWILIO_YES: Final = frozenset({"yes"})

# Without spaces, in lower case. Words with and without their accents are both here: accents are letters.
_STOPS: Final = {
    "en": _TWILIO,
    "de": {"stopp", "abmelden", "abbestellen", "austragen"},
    "fr": {"arret", "arrêt", "arreter", "arrêter", "desabonner", "désabonner", "desinscription", "désinscription"},
    "es": {"baja", "alto", "parar", "detener"},
    "pt": {"sair", "parar", "pare", "descadastrar"},
    "nl": {"afmelden", "uitschrijven", "stoppen"},
    "it": {"disiscrivi", "cancellami", "ferma"},
    "sv": {"stopp", "avregistrera"},
    "da": {"stop", "afmeld"},
    "no": {"stopp", "avmeld"},
    "fi": {"lopeta", "peru"},
    "pl": {"rezygnuje", "rezygnuję", "wypisz"},
    "cs": {"odhlasit", "odhlásit"},
    "tr": {"dur", "iptal", "ret"},
    "el": {"διακοπη", "διακοπή"},
    "hu": {"leiratkozas", "leiratkozás", "leiratkozom"},
    "ro": {"dezabonare", "oprire"},
    "sk": {"odhlasit", "odhlásiť"},
    "hr": {"odjava"},
    "sr": {"odjava", "odjavi", "стоп"},
    "bg": {"стоп"},
    "ru": {"стоп"},
    "uk": {"стоп"},
    "he": {"הסר", "הסרה"},
    "ja": {"停止", "配信停止", "ストップ"},
    "ko": {"수신거부"},
    "zh": {"td", "退订", "退訂"},
}
_STARTS_IN: Final = {
    "en": {"subscribe", "optin", "opt-in"},
    "de": {"anmelden"},
    "fr": {"reprendre"},
    "es": {"alta"},
    "nl": {"aanmelden"},
}
_LANGUAGES: Final = {
    **dict.fromkeys(
        (
            *("AU", "GB", "GG", "GI", "IE", "IM", "JE", "NZ", "US"),
            *("AG", "BB", "BM", "BS", "BZ", "DM", "GD", "GY", "JM", "KN", "KY", "LC", "TT", "VC"),
            *("BW", "GH", "GM", "KE", "LR", "MU", "MW", "NA", "NG", "SL", "SZ", "TZ", "UG", "ZA", "ZM", "ZW"),
            *("AE", "BD", "IN", "LK", "MY", "PH", "PK", "SG"),
        ),
        ("en",),
    ),
    "HK": ("en", "zh"),
    **dict.fromkeys(("CN", "MO", "TW"), ("zh",)),
    "JP": ("ja",),
    "KR": ("ko",),
    "IL": ("he",),
    "HU": ("hu",),
    **dict.fromkeys(("MD", "RO"), ("ro",)),
    "SK": ("sk",),
    **dict.fromkeys(("BA", "HR", "SI"), ("hr",)),
    **dict.fromkeys(("ME", "RS"), ("sr",)),
    "BG": ("bg",),
    **dict.fromkeys(("BY", "KZ", "RU"), ("ru",)),
    "UA": ("uk", "ru"),
    "CA": ("en", "fr"),
    **dict.fromkeys(("AT", "DE", "LI"), ("de",)),
    "CH": ("de", "fr", "it"),
    "LU": ("de", "fr"),
    "BE": ("nl", "fr", "de"),
    **dict.fromkeys(("FR", "GF", "GP", "MC", "MQ", "RE"), ("fr",)),
    **dict.fromkeys(
        (
            "AR",
            "BO",
            "CL",
            "CO",
            "CR",
            "CU",
            "DO",
            "EC",
            "ES",
            "GT",
            "HN",
            "MX",
            "NI",
            "PA",
            "PE",
            "PY",
            "SV",
            "UY",
            "VE",
        ),
        ("es",),
    ),
    **dict.fromkeys(("BR", "PT", "AO", "MZ"), ("pt",)),
    "NL": ("nl",),
    **dict.fromkeys(("IT", "SM", "VA"), ("it",)),
    "SE": ("sv",),
    "DK": ("da",),
    "NO": ("no",),
    "FI": ("fi", "sv"),
    "MT": ("en",),
    "CY": ("el", "tr", "en"),
    "PL": ("pl",),
    "CZ": ("cs",),
    "TR": ("tr",),
    "GR": ("el",),
}

SmsWord = Keyword | Literal["maybe_start"]
"""``maybe_start``: START where the customer's STOP stands, else an answer."""


def sms_word_of(text: str | None, country: str | None, provider: str) -> SmsWord | None:
    """What the whole text asks for. ``country`` is the organisation's (ISO 3166-1 alpha-2), None where unknown."""
    if text is None or len(text) > _LONGEST_TEXT:
        return None
    word = _plain(text)
    if len(word) > _LONGEST:
        return None
    languages = _LANGUAGES.get(country or "", ())
    stops = _EVERYWHERE.union(*(_STOPS.get(language, ()) for language in languages))
    starts = _STARTS.union(*(_STARTS_IN.get(language, ()) for language in languages))
    if word in stops or word.strip(_AROUND) in _EVERYWHERE or (provider == "twilio" and word in _TWILIO):
        return "stop"
    if word in starts:
        return "start"
    return "maybe_start" if provider == "twilio" and word in _TWILIO_YES else None


def _plain(text: str) -> str:
    """The text in one form of Unicode and one case, without spaces and one final dot."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = "".join(c for c in folded if not c.isspace() and unicodedata.category(c) != "Cf" and not _MARKS.match(c))
    kept = "".join("-" if unicodedata.category(c) == "Pd" else c for c in kept)
    # Turkish capital I with a dot becomes an i and a combining dot
    return kept.replace("i\u0307", "i").removesuffix(".") if not kept.endswith("。") else kept[:-1]
