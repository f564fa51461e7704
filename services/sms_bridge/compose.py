"""The text of the bridge SMS. Pure.

Law 1: it is one GSM-7 segment of 160 septets for any name of an organisation. The name is transliterated, then
        shortened, then left out.
Law 2: a link is never shortened, and no character follows it that a phone could take for a part of it.
Law 3: the thread keeps the text with the code masked. The code itself leaves this process in the SMS alone.
"""

import re
from dataclasses import dataclass

from libs.common.bridge.link_codes import CODE_LENGTH, MASKED_CODE
from libs.common.gsm7 import SEGMENT_SEPTETS, septets, shorten, transliterate
from libs.common.phone import digits

_SEPARATOR = ": "

# A host name or address with an optional port and path, in characters of links that GSM-7 has.
_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*)"
    r"(?::[0-9]{1,5})?(?:/[A-Za-z0-9_-]+)*"
)
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_WA_ME = re.compile(r"[1-9][0-9]{6,14}")


@dataclass(frozen=True, slots=True)
class Composed:
    """The text that is sent, and the masked one that the thread keeps."""

    text: str
    masked: str


@dataclass(frozen=True, slots=True)
class Unwritable:
    """No bridge can be written for this organisation, now or later. ``why`` is a static code."""

    why: str


def compose(*, org_name: str, whatsapp_number: str | None, portal_host: str, code: str) -> Composed | Unwritable:
    """``{org}: Update for you. WhatsApp: wa.me/{digits} Portal: {host}/{code}``, at most 160 septets.

    ``whatsapp_number`` is the business number in E.164. Where the conversation has none, the WhatsApp link is left out.
    A scheme and a final slash of ``portal_host`` are left out. A name that cannot be written, or has no
    room, is left out with its colon. Unwritable: the number is no number, the host is no host, or the host is too long
    for the segment.
    """
    number = None if whatsapp_number is None else digits(whatsapp_number)
    if number is not None and not _WA_ME.fullmatch(number):
        return Unwritable("whatsapp_number_unusable")
    host = host_of_link(portal_host)
    if host is None:
        return Unwritable("portal_host_unusable")
    whatsapp = "" if number is None else f"WhatsApp: wa.me/{number} "
    links = f"Update for you. {whatsapp}Portal: {host}/"
    room = SEGMENT_SEPTETS - septets(links) - CODE_LENGTH
    if room < 0:
        return Unwritable("portal_host_too_long")
    name = shorten(transliterate(org_name), room - len(_SEPARATOR))
    head = f"{name}{_SEPARATOR}{links}" if name else links
    return Composed(text=head + code, masked=head + MASKED_CODE)


def host_of_link(portal_host: str) -> str | None:
    """The host as a link has it, in lower case, an international name in its ASCII form. None: it is no host."""
    bare = _SCHEME.sub("", portal_host.strip(), count=1).rstrip("/")
    if not bare.isascii():
        try:
            bare = bare.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return bare.lower() if _HOST.fullmatch(bare) else None
