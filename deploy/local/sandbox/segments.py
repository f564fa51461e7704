"""How many segments an SMS has, by 3GPP TS 23.038. No I/O."""

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = frozenset("\f^{}\\[~]|€")
"""Written with an escape, so two septets each."""

GSM_SINGLE, GSM_PART = 160, 153
UCS2_SINGLE, UCS2_PART = 70, 67


def segments(body: str) -> int:
    """Segments the body is charged for: GSM-7 when every character allows it, else UCS-2; at least one.

    A pair (an escape with its character, or a surrogate pair) is never split between two segments.
    """
    if all(c in BASIC or c in EXTENDED for c in body):
        return _parts([2 if c in EXTENDED else 1 for c in body], GSM_SINGLE, GSM_PART)
    return _parts([2 if ord(c) > 0xFFFF else 1 for c in body], UCS2_SINGLE, UCS2_PART)  # noqa: PLR2004  end of the BMP


def split(body: str) -> list[str]:
    """The body in the parts that it is sent in."""
    gsm = all(c in BASIC or c in EXTENDED for c in body)
    widths = [2 if (c in EXTENDED if gsm else ord(c) > 0xFFFF) else 1 for c in body]  # noqa: PLR2004  end of the BMP
    ends = _ends(widths, *((GSM_SINGLE, GSM_PART) if gsm else (UCS2_SINGLE, UCS2_PART)))
    return [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]


def _parts(widths: list[int], single: int, part: int) -> int:
    return len(_ends(widths, single, part)) + 1


def _ends(widths: list[int], single: int, part: int) -> list[int]:
    """Before which characters a new part begins."""
    if sum(widths) <= single:
        return []
    ends, used = [], 0
    for at, width in enumerate(widths):
        if used + width > part:
            ends.append(at)
            used = 0
        used += width
    return ends
