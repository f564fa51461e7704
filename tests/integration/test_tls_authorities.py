"""An authority that was made by hand: what a service meets at its certificates, and what ``transom doctor`` says.

From Python 3.13 on, OpenSSL is asked to be strict (RFC 5280) by every client but asyncpg.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.local.servers.local_servers import remove_all, start_all
from libs.common.clock import utc_now
from libs.common.db.pool import open_pool
from libs.common.errors import ConfigurationError
from libs.common.redis import open_redis
from tests.support.doctor import Doctor, codes, finding
from tests.support.servers import RunServers
from tests.support.tls_servers import PASSWORD, Authority, TlsPostgres, TlsRedis
from tests.support.tls_system import answers
from tests.support.waiting import eventually_true

WHY = "its certificate, or that of its authority, lacks what RFC 5280 asks for"
IS_STRICT = sys.version_info >= (3, 13)


def made_by_hand() -> trustme.CA:
    """As ``openssl req -x509`` makes one by default: its certificate does not say what its key may be used for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "made by hand")])
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(hours=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return trustme.CA.from_pem(
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


@pytest.fixture
def servers(
    tls_programs: tuple[Path, Path], tmp_path: Path, run_servers: RunServers
) -> Iterator[tuple[TlsPostgres, TlsRedis]]:
    postgres, redis = tls_programs
    authority = Authority(tmp_path, ca=made_by_hand())
    made = (
        TlsPostgres(tmp_path / "postgres", run_servers.watchdog, authority, postgres),
        TlsRedis(tmp_path / "redis", run_servers.watchdog, authority, redis),
    )
    with ExitStack() as ending:
        ending.callback(remove_all, made)
        for server in made:
            ending.callback(server.kill)
        start_all(made)
        yield made


async def test_doctor_says_of_a_plain_authority_what_a_service_meets_there(
    servers: tuple[TlsPostgres, TlsRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres, redis = servers
    doctor = Doctor(monkeypatch)
    doctor.set(POSTGRES_DSN=postgres.url(), REDIS_URL=redis.url())
    doctor.planted.add(PASSWORD)
    report = await doctor.look_at_all("postgres", "redis")

    async with open_pool(postgres.url(), application_name="test", size=1) as pool, pool.acquire() as db:
        assert await db.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    assert "postgres_certificate_bad" not in codes(report)
    if IS_STRICT:
        with pytest.raises(ConfigurationError, match=WHY):
            async with open_redis(redis.url()):
                pass
        assert WHY in finding(report, "redis_certificate_bad").problem
    else:
        async with open_redis(redis.url()) as opened:
            await eventually_true(partial(answers, opened))
        assert "redis_certificate_bad" not in codes(report)
