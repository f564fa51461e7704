"""The certificate of a PostgreSQL server whose address asks for TLS."""

import asyncio
import ssl
import struct
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit

from deploy.cli.doctor.certificates import look, tell_of
from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.running import Tell

_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_SUBJECT = "PostgreSQL"
_DEFAULT_PORT = 5432
_CHECKED = {"verify-ca", "verify-full"}


async def look_at_certificate(dsn: str, tell: Tell) -> None:
    """Tell what is wrong with it. An address without ``sslmode``, or with several hosts, is left to the connection."""
    try:
        parts = urlsplit(dsn)
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:
        return  # the connection says that the address is wrong
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    mode = options.get("sslmode", "")
    if host is None or mode not in {"require", *_CHECKED}:
        return
    try:
        context = _context(options)
    except (OSError, ssl.SSLError):
        tell(
            Finding(
                "postgres_certificate_unseen",
                _SUBJECT,
                "The file of authorities in the address (sslrootcert) cannot be read.",
                "Correct its path, and let this user read it.",
            )
        )
        return
    tell_of(await look(unquote(host), port, context, _ask_for_tls), _SUBJECT, "postgres", tell)


def _context(options: Mapping[str, str]) -> ssl.SSLContext:
    """As libpq's sslmode has it: ``verify-ca`` does not compare the host, ``require`` without authorities nothing.

    It asks of a certificate what asyncpg asks. ``create_default_context`` asks more from Python 3.13 on (RFC 5280).
    """
    root = options.get("sslrootcert")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if root and root != "system":
        context.load_verify_locations(root)
    else:
        context.load_default_certs()
    context.check_hostname = options["sslmode"] == "verify-full"
    if options["sslmode"] == "require" and root is None:
        context.verify_mode = ssl.CERT_NONE
    return context


async def _ask_for_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(_SSL_REQUEST)
    return await reader.readexactly(1) == b"S"
