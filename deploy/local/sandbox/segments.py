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


def _parts(widths: list[int], single: int, part: int) -> int:
    if sum(widths) <= single:
        return 1
    count, used = 1, 0
    for width in widths:
        if used + width > part:
            count, used = count + 1, 0
        used += width
    return count
