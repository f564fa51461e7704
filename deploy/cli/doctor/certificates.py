"""Looks at the certificate of a TLS server: whether it is trusted, is of this host, and until when it counts.

A handshake alone is made; nothing is asked.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.running import CALL_SECONDS, Tell
from libs.common.clock import utc_now
from libs.common.reaching import is_silence, words_of

SOON = timedelta(days=21)
Preamble = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]
"""What comes before TLS on the same connection. False: the server does not offer TLS."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a handshake showed. ``trouble``: why it failed, in words; ``ends``: when the certificate ends."""

    trouble: str | None
    certificate_is_bad: bool = False
    expired: bool = False
    silent: bool = False
    ends: datetime | None = None


async def look(host: str, port: int, context: ssl.SSLContext | None = None, preamble: Preamble | None = None) -> Seen:
    """Make a handshake with the server. Raises nothing but cancellation, and ends within ``CALL_SECONDS``."""
    checked = ssl.create_default_context() if context is None else context
    try:
        ends = await _handshake(host, port, checked, preamble)
    except ssl.SSLCertVerificationError as error:
        return Seen(words_of(error), certificate_is_bad=True, expired=error.verify_code == _EXPIRED)
    except (OSError, TimeoutError, ValueError, ssl.SSLError) as error:
        return Seen(words_of(error), silent=is_silence(error))
    return Seen(None, ends=ends)


_EXPIRED = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED


async def _handshake(host: str, port: int, context: ssl.SSLContext, preamble: Preamble | None) -> datetime | None:
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(CALL_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            if preamble is not None and not await preamble(reader, writer):
                raise ConnectionError("no TLS")
            await writer.start_tls(context, server_hostname=host)
            found = writer.get_extra_info("ssl_object")
            raw = None if found is None else found.getpeercert(binary_form=True)
            return None if raw is None else x509.load_der_x509_certificate(raw).not_valid_after_utc
    finally:
        if writer is not None:
            writer.transport.abort()


def tell_of(seen: Seen, subject: str, prefix: str, tell: Tell) -> bool:
    """Tell what is wrong with the certificate, by codes that begin with ``prefix``. Whether the server is trusted."""
    if seen.certificate_is_bad:
        code = f"{prefix}_certificate_expired" if seen.expired else f"{prefix}_certificate_bad"
        tell(
            Finding(
                code,
                subject,
                f"TLS ends there: {seen.trouble}.",
                "Renew it, or install one for this host name from an authority that this machine trusts.",
            )
        )
        return False
    if seen.ends is not None and (left := seen.ends - utc_now()) <= SOON:
        tell(
            Finding(
                f"{prefix}_certificate_ends",
                subject,
                f"Its certificate ends in {max(0, left.days)} days, at {seen.ends:%Y-%m-%d %H:%M} UTC.",
                "Renew it, and see why that has not happened by itself.",
            )
        )
    return seen.trouble is None
