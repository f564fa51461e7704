"""``transom doctor`` at Transom's own addresses and its servers', and at certificates that are made on the spot."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import trustme
from aiohttp import web

from deploy.cli.doctor.certificates import look
from deploy.cli.doctor.queries import WhatsappNumber
from deploy.cli.doctor.site import Directory
from deploy.local.servers.ports import LOOPBACK, free_port
from libs.common.clock import utc_now
from tests.support.doctor import PLANTED, Doctor, codes, finding

Answer = Callable[[web.BaseRequest], web.Response]
NOWHERE = Directory()
NUMBER = WhatsappNumber("acme", "106400000000001", "206400000000001", "+447700900123", None)
OF_PAGE = {"Content-Security-Policy": "default-src 'none'"}


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    """An authority that this machine trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return made


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    made = Doctor(monkeypatch)
    made.unset("PUBLIC_URL", "PORTAL_URL", "INBOX_URL")
    return made


@asynccontextmanager
async def served(answer: Answer, certificate: trustme.LeafCert | None = None) -> AsyncIterator[int]:
    """The port of a server that gives these answers, over TLS where it has a certificate."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return answer(request)

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    port = free_port()
    try:
        await web.TCPSite(runner, LOOPBACK, port, ssl_context=context).start()
        yield port
    finally:
        await runner.cleanup()


def portal(request: web.BaseRequest) -> web.Response:
    """As the portal answers: 421 to a foreign name, 401 without a session."""
    known = request.host.startswith(("localhost", LOOPBACK))
    return web.Response(status=401 if known and request.path == "/conversation" else 421, headers=OF_PAGE)


def careless(request: web.BaseRequest) -> web.Response:
    """As behind a proxy that writes the Host header itself, and that hides no path."""
    return (
        web.Response(text="# HELP everything")
        if request.path == "/metrics"
        else web.Response(status=401, headers=OF_PAGE)
    )


def inbox(_request: web.BaseRequest) -> web.Response:
    """As the inbox answers, whatever the name."""
    return web.json_response({"openapi": "3.1.0", "padding": "x" * 1000})


def edge(_request: web.BaseRequest) -> web.Response:
    return web.json_response({"status": 403}, status=403, content_type="application/problem+json")


def password_wall(_request: web.BaseRequest) -> web.Response:
    """As a proxy that asks for a password before every page."""
    return web.Response(status=401, headers={"WWW-Authenticate": "Basic"} | OF_PAGE)


def answering(status: int) -> Answer:
    return lambda _request: web.Response(status=status)


async def test_addresses_that_answer_over_a_good_certificate_are_good(doctor: Doctor, authority: trustme.CA) -> None:
    async with AsyncExitStack() as servers:
        good = authority.issue_cert("localhost")
        doctor.set(
            PORTAL_URL=f"https://localhost:{await servers.enter_async_context(served(portal, good))}",
            INBOX_URL=f"https://localhost:{await servers.enter_async_context(served(inbox, good))}",
            PUBLIC_URL=f"https://localhost:{await servers.enter_async_context(served(edge, good))}",
        )
        report = await doctor.look_at("addresses", NOWHERE)
    # this inbox serves every name, which is seen
    assert codes(report) == {"address_good", "address_any_host"}
    assert finding(report, "address_any_host").subject.startswith("TRANSOM_INBOX_URL")


@pytest.mark.parametrize(
    ("host", "days", "code"),
    [
        ("localhost", -1, "address_certificate_expired"),
        ("elsewhere.example", 90, "address_certificate_bad"),
        ("localhost", 20, "address_certificate_ends"),
    ],
)
async def test_a_bad_certificate_names_its_fault(
    doctor: Doctor, authority: trustme.CA, host: str, days: int, code: str
) -> None:
    now = utc_now()
    certificate = authority.issue_cert(host, not_before=now - timedelta(days=30), not_after=now + timedelta(days=days))
    async with served(portal, certificate) as port:
        doctor.set(PORTAL_URL=f"https://localhost:{port}")
        report = await doctor.look_at("addresses", NOWHERE)
    assert codes(report) == {code}
    assert finding(report, code).severity == ("warning" if code.endswith("_ends") else "error")


async def test_a_certificate_of_an_unknown_authority_is_bad(doctor: Doctor, authority: trustme.CA) -> None:
    async with served(portal, trustme.CA().issue_cert("localhost")) as port:
        doctor.set(PORTAL_URL=f"https://localhost:{port}")
        report = await doctor.look_at("addresses", NOWHERE)
    assert "no authority that is trusted here" in finding(report, "address_certificate_bad").problem


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answering(502), {"address_answer_wrong"}),
        (answering(404), {"address_answer_wrong"}),
        (answering(421), {"address_host_refused"}),
        (careless, {"address_any_host"}),
        (password_wall, {"address_answer_wrong"}),
    ],
)
async def test_an_answer_that_is_not_the_services_is_named(doctor: Doctor, answer: Answer, expected: set[str]) -> None:
    async with served(answer) as port:
        doctor.set(PORTAL_URL=f"http://{LOOPBACK}:{port}")
        assert codes(await doctor.look_at("addresses", NOWHERE)) == expected


async def test_a_proxy_that_answers_for_the_services_is_not_taken_for_them(doctor: Doctor) -> None:
    async with AsyncExitStack() as servers:
        page = await servers.enter_async_context(served(answering(200)))
        wall = await servers.enter_async_context(served(answering(403)))
        doctor.set(INBOX_URL=f"http://{LOOPBACK}:{page}", PUBLIC_URL=f"http://{LOOPBACK}:{wall}")
        report = await doctor.look_at("addresses", NOWHERE)
        doctor.set(**dict.fromkeys(("GRAPH_BASE_URL", "TWILIO_BASE_URL"), f"http://{LOOPBACK}:{page}"))
        of_graph = await doctor.look_at("graph", Directory(numbers=(NUMBER,)))
        of_sms = await doctor.look_at("sms", NOWHERE)
        doctor.set(GRAPH_BASE_URL=f"http://{LOOPBACK}:{wall}")
        busy = await doctor.look_at("graph", Directory(numbers=(NUMBER,)))
    assert codes(report) == {"address_answer_wrong"}
    assert codes(of_graph) == {"graph_unreachable"}
    assert codes(of_sms) == {"sms_answer_strange"}
    assert codes(busy) == {"graph_answer_strange"}


async def test_metrics_that_everybody_reads_are_named(doctor: Doctor, authority: trustme.CA) -> None:
    async with served(careless, authority.issue_cert("localhost")) as port:
        doctor.set(PORTAL_URL=f"https://localhost:{port}")
        report = await doctor.look_at("addresses", NOWHERE)
    assert codes(report) == {"address_any_host", "address_metrics_public"}


async def test_addresses_that_are_dead_or_have_no_name_are_named(doctor: Doctor) -> None:
    doctor.set(INBOX_URL=f"http://{LOOPBACK}:{free_port()}", PUBLIC_URL="https://no-such-host.invalid")
    report = await doctor.look_at("addresses", Directory(hosts=("no-such-garage.invalid",)))
    assert finding(report, "address_unreachable").subject.startswith("TRANSOM_INBOX_URL")
    subjects = {one.subject for one in report.findings if one.code == "address_unresolved"}
    assert "TRANSOM_PUBLIC_URL https://no-such-host.invalid" in " ".join(subjects)
    assert "portal_host https://no-such-garage.invalid" in " ".join(subjects)


async def test_an_issuer_that_does_not_fit_names_its_fault(doctor: Doctor) -> None:
    def provider(request: web.BaseRequest) -> web.Response:
        if request.path.startswith("/keys"):
            return web.json_response({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})
        here = f"http://{request.host}"
        metadata = {
            "issuer": f"{here}/other",
            "jwks_uri": f"{here}/keys",
            "code_challenge_methods_supported": ["plain"],
        }
        return web.json_response(metadata)

    doctor.set(INBOX_URL=f"http://{LOOPBACK}:1", JWT_AUDIENCE="inbox", OIDC_CLIENT_ID="inbox")
    async with served(provider) as port:
        doctor.set(OIDC_ISSUER=f"http://{LOOPBACK}:{port}", JWT_ISSUER=f"http://{LOOPBACK}:{port}")
        report = await doctor.look_at("sign-in")
    assert codes(report) == {"issuer_differs", "issuer_flow_missing", "keys_none"}
    doctor.set(OIDC_ISSUER=f"http://{LOOPBACK}:{free_port()}")
    assert codes(await doctor.look_at("sign-in")) == {"issuer_unreachable"}


async def test_tls_servers_that_are_dependencies_show_their_certificates(doctor: Doctor, authority: trustme.CA) -> None:
    """Kafka and Redis: the handshake comes first, and an expired certificate is told by itself."""
    old = authority.issue_cert(
        "localhost", not_before=utc_now() - timedelta(days=3), not_after=utc_now() - timedelta(days=1)
    )
    async with served(answering(200), old) as port:
        doctor.set(
            KAFKA_BOOTSTRAP=f"localhost:{port}", KAFKA_SECURITY_PROTOCOL="SSL", REDIS_URL=f"rediss://localhost:{port}/0"
        )
        report = await doctor.look_at_all("kafka", "redis")
        assert {"kafka_certificate_expired", "redis_certificate_expired"} <= codes(report)
        assert "kafka_good" not in codes(report)
        assert "redis_good" not in codes(report)


async def test_a_server_without_tls_is_no_bad_certificate() -> None:
    async with served(answering(200)) as port:
        seen = await look(LOOPBACK, port)
    assert (seen.certificate_is_bad, seen.ends) == (False, None)
    assert seen.trouble == "it does not speak TLS there"


@pytest.mark.parametrize("setting", ["POSTGRES_DSN", "REDIS_URL", "KAFKA_BOOTSTRAP"])
async def test_an_address_whose_file_cannot_be_read_is_not_replaced_by_the_default(
    doctor: Doctor, setting: str, tmp_path: Path
) -> None:
    doctor.unset(setting)
    doctor.set(**{f"{setting}_FILE": str(tmp_path / "nothing")})
    area = setting.partition("_")[0].lower()
    assert codes(await doctor.look_at(area)) == {f"{area}_not_checked"}


async def test_a_wrong_address_of_postgres_is_refused(doctor: Doctor, database: str) -> None:
    url = urlsplit(database)
    for wrong in (
        url._replace(netloc=f"{url.username}:{quote(PLANTED, safe='')}@{url.hostname}:{url.port}").geturl(),
        url._replace(path="/no_such_database").geturl(),
        f"mysql://u:{PLANTED}@{url.hostname}:{url.port}/x",
        url._replace(query="sslmode=require").geturl(),
        url._replace(query="sslmode=verify-full&sslrootcert=/no/such/file").geturl(),
        f"postgresql://u:a#b@{url.hostname}:{url.port}/x",
    ):
        doctor.set(POSTGRES_DSN=wrong)
        report = await doctor.look_at("postgres")
        assert codes(report) - {"postgres_certificate_unseen"} == {"postgres_refused"}
    doctor.set(POSTGRES_DSN=database, POSTGRES_POOL_SIZE="1000")
    report = await doctor.look_at("postgres")
    assert "7000 connections (7 pools of 1000)" in finding(report, "connections_few").problem
