"""The text of the bridge SMS. Pure.

Law 1: it is one GSM-7 segment of 160 septets for any name of an organisation. The name is transliterated, rid of
        links, then shortened, then left out (``libs.common.org_name``).
Law 2: a link is never shortened, and no character follows it that a phone could take for a part of it.
Law 3: the thread keeps the text with the code masked. The code itself leaves this process in the SMS alone.
"""

import re
from dataclasses import dataclass

from libs.common.bridge.link_codes import CODE_LENGTH, MASKED_CODE
from libs.common.gsm7 import SEGMENT_SEPTETS, septets, shorten
from libs.common.org_name import sms_name
from libs.common.phone import digits
from libs.common.portal_host import organisation_host, platform_origin

_SEPARATOR = ": "

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
    A name that cannot be written, or has no room, is left out with its colon. Unwritable: the number is no number, or
    the host is no host.
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
    name = shorten(sms_name(org_name), room - len(_SEPARATOR))
    head = f"{name}{_SEPARATOR}{links}" if name else links
    return Composed(text=head + code, masked=head + MASKED_CODE)


def host_of_link(portal_host: str) -> str | None:
    """The host as a link has it, and as browsers send it. None: it is no host of a portal.

    ``portal_host`` is an organisation's host, or PORTAL_URL.
    """
    try:
        return platform_origin(portal_host).host if "://" in portal_host else organisation_host(portal_host)
    except ValueError:
        return None
