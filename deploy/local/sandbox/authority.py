"""A certificate authority that lives as long as the sandbox, for clients that are not on this machine alone.

Services send their tokens over TLS, but to a loopback address. A sandbox in a container of its own therefore serves TLS
too, and its clients trust the authority by ``SSL_CERT_FILE``. The authority signs one certificate, and its key is
forgotten at once: what trusts it trusts this sandbox and nothing else.
"""

import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FILE_NAME = "authority.pem"
_LIFE = timedelta(days=365)
_SKEW = timedelta(minutes=5)


def tls_context(folder: Path, names: Sequence[str]) -> ssl.SSLContext:
    """A server's context for these host names. The certificate of its authority is written into the folder.

    The file is replaced as a whole, so a client never reads half of it. Raises OSError where it cannot be written.
    """
    key, authority_key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    authority = _signed("Transom sandbox authority", authority_key, None, authority_key, ())
    certificate = _signed(names[0], key, authority, authority_key, names)
    fresh = folder / f"{FILE_NAME}.new"
    fresh.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    fresh.chmod(0o644)
    fresh.replace(folder / FILE_NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as private:  # Python loads a chain from a file alone
        chain = Path(private) / "chain.pem"
        descriptor = os.open(chain, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(chain)
    return context


def _signed(
    name: str,
    key: EllipticCurvePrivateKey,
    authority: x509.Certificate | None,
    authority_key: EllipticCurvePrivateKey,
    names: Sequence[str],
) -> x509.Certificate:
    """A certificate of ``key``. Without ``authority`` it is an authority that signs itself."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    own, public = key.public_key(), authority_key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if authority is None else authority.subject)
        .public_key(own)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(
            x509.BasicConstraints(ca=authority is None, path_length=0 if authority is None else None), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(_usage(signs=authority is None), critical=True)
    )
    if authority is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
