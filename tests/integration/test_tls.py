"""Kafka, PostgreSQL and Redis over TLS, with passwords and client certificates: real servers and real services.

Rights are those that ``transom topics --acls`` prints. What is wrong with a certificate or a password is one line that
names the server and the cause, and never a password; nothing goes on in plain text.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import orjson
import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.servers.local_servers import remove_all, start_all
from deploy.local.servers.ports import LOOPBACK, free_port
from libs.common.clock import utc_now
from libs.common.db.migrate import migrate
from libs.common.db.pool import open_pool
from libs.common.events.access import acls
from libs.common.events.topics import INBOUND_MESSAGES, OUTBOUND_DECISIONS, OUTBOUND_INTENTS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.topic_tail import TopicTail
from libs.common.redis import open_redis
from tests.support.command import COMMAND, complaint, environment, running, transom
from tests.support.doctor import Doctor, codes
from tests.support.manifests.build import containers_of, documents_in
from tests.support.sandbox import ROOT
from tests.support.secured_kafka import apply
from tests.support.servers import RunServers
from tests.support.tls_servers import ADMIN, PASSWORD, Authority, Identity, TlsKafka, TlsPostgres, TlsRedis
from tests.support.tls_system import GUESS, USERS, Secured, a_service, answers, presenting, refused
from tests.support.topic_records import TopicRecord
from tests.support.waiting import eventually_true
from tests.support.webhooks import a_message, as_body, of_messages, sign

pytestmark = pytest.mark.timeout(300)

SECRET = "app-secret"


@pytest.fixture(scope="module")
def secured(
    tls_programs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, run_servers: RunServers
) -> Iterator[Secured]:
    postgres, redis = tls_programs
    folder, watchdog = tmp_path_factory.mktemp("tls"), run_servers.watchdog
    ours, stranger = Authority(folder), Authority(folder, "stranger")
    made = Secured(
        TlsKafka(folder / "kafka", watchdog, ours, USERS),
        TlsPostgres(folder / "postgres", watchdog, ours, postgres),
        TlsRedis(folder / "redis", watchdog, ours, redis),
        ours,
        stranger,
        ours.client("transom-router"),
    )
    servers = [made.kafka, made.postgres, made.redis]
    with ExitStack() as ending:
        ending.callback(remove_all, servers)
        for server in servers:
            ending.callback(server.kill)  # nothing of it is needed any more
        start_all(servers)
        yield made


@pytest_asyncio.fixture(scope="module")
async def prepared(secured: Secured) -> Secured:
    """The operator has migrated, given the printed rights, made the topics and loaded a garage, all over TLS."""
    operator = environment(**secured.env())
    await migrate(secured.postgres.url())
    admin = AIOKafkaAdminClient(**replace(secured.as_user(ADMIN), sasl_mechanism="PLAIN").client_options())
    await admin.start()
    try:
        for acl in acls():
            await apply(admin, acl.command(secured.kafka.address))
    finally:
        await admin.close()
    async with open_pool(secured.postgres.url(), application_name="test", size=1) as pool, pool.acquire() as db:
        await db.execute((ROOT / "deploy/k8s/examples/cloudnativepg/edge-rights.sql").read_text())
    await asyncio.gather(
        _done("topics", "--partitions", "1", env=operator, says="created"),
        _done("load", str(ROOT / "examples/garage.yaml"), env=operator),
    )
    return secured


async def test_doctor_looks_at_the_certificate_of_each_server(
    prepared: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor, secured = Doctor(monkeypatch), prepared
    doctor.set(**secured.env(KAFKA_SASL_USERNAME="transom-ingest"))
    doctor.planted.add(PASSWORD)
    doctor.services = ("ingest", "router")
    servers = ("kafka", "postgres", "redis")
    good = await doctor.look_at_all(*servers)
    assert not [code for code in codes(good) if code.endswith(("_bad", "_expired", "_unreachable", "_refused"))]
    assert {f"{server}_certificate_ends" for server in servers} <= codes(good)  # they were made for this run alone
    assert {"topic_settings_unseen", "topic_right_missing", "redis_rights_unseen"} <= codes(good)  # of the router, too
    other = secured.stranger.file
    doctor.set(
        KAFKA_SSL_CAFILE=str(other),
        POSTGRES_DSN=secured.postgres.url(sslrootcert=other),
        REDIS_URL=secured.redis.url(ca=other),
    )
    bad = await doctor.look_at_all(*servers)
    assert {f"{server}_certificate_bad" for server in servers} <= codes(bad)
    assert not [code for code in codes(bad) if code.endswith("_good")]


async def test_a_customer_is_answered_over_tls_alone_and_with_the_printed_rights(
    prepared: Secured, tmp_path: Path, run_servers: RunServers
) -> None:
    """Ingest has a password at the brokers, the router a client certificate, and the agent is the cluster's example."""
    secured = prepared
    by_certificate = {
        "KAFKA_BOOTSTRAP": f"{LOOPBACK}:{secured.kafka.certificates_port}",
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_SASL_USERNAME": "",
        "KAFKA_SASL_PASSWORD": "",
        "KAFKA_SSL_CERTFILE": str(secured.client.cert),
        "KAFKA_SSL_KEYFILE": str(secured.client.key),
    }
    by_password = {
        "KAFKA_SASL_USERNAME": "transom-ingest",
        "META_APP_SECRETS": SECRET,
        "META_VERIFY_TOKEN": "hello",
    }
    agent = secured.as_user("transom-agent")
    async with (
        TopicTail(agent, (INBOUND_MESSAGES, OUTBOUND_DECISIONS), TopicRecord.of) as tail,
        Producer(agent) as producer,
        a_service("ingest", secured, tmp_path, run_servers, **by_password) as ingest,
        a_service("router", secured, tmp_path, run_servers, **by_certificate) as router,
    ):
        await asyncio.gather(ingest.ready(), router.ready())
        records = aiter(tail)
        async with asyncio.timeout(60):
            first = await _first_bridge(secured, tmp_path)
            decided = (await anext(records)).event
        assert (decided["intent_id"], decided["route"]) == (first, "bridge")
        body = as_body(of_messages(a_message(utc_now())))
        async with httpx.AsyncClient(timeout=20) as http:
            answer = await http.post(
                f"{ingest.url}/webhooks/meta", content=body,
                headers={"X-Hub-Signature-256": sign(body, SECRET.encode())},
            )  # fmt: skip
        assert answer.status_code == 200
        async with asyncio.timeout(60):
            said = (await anext(records)).event
            assert said["type"] == "inbound.message.v1"
            intent = orjson.loads((ROOT / "libs/common/events/examples/outbound.intent.v1.json").read_bytes()) | {
                "intent_id": str(uuid4()),
                "conversation_id": said["conversation_id"],
                "reply_to": None,
                "created_at": utc_now().isoformat(),
            }
            key = said["conversation_id"].encode()
            await producer.publish([Record(OUTBOUND_INTENTS, key, orjson.dumps(intent))])
            decided = (await anext(records)).event
        assert (decided["type"], decided["intent_id"]) == ("outbound.decision.v1", intent["intent_id"])
        assert decided["route"] == "session"


async def _first_bridge(secured: Secured, folder: Path) -> str:
    """Run the container of the example as its Job does; the id that it prints."""
    (job,) = documents_in(ROOT / "deploy/k8s/examples/first-bridge/job.yaml")
    (container,) = containers_of(job)
    given = {one["name"]: one["value"] for one in container["env"]}
    password = folder / "kafka-password"
    password.write_text(PASSWORD)
    kafka = {name: value for name, value in secured.env().items() if name.startswith("KAFKA_")}
    del kafka["KAFKA_SASL_PASSWORD"]
    env = environment(**kafka) | given | {"TRANSOM_KAFKA_SASL_PASSWORD_FILE": str(password)}
    assert container["command"] == ["python", "-c"]
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", *container["args"], cwd=ROOT, env=env, stdout=subprocess.PIPE
    )
    said, _ = await agent.communicate()
    assert agent.returncode == 0
    return said.decode().strip()


async def test_the_edge_needs_its_two_tables_of_postgresql_alone(prepared: Secured) -> None:
    """It stores what it refused as a role with no other right."""
    server = prepared.postgres
    dsn = server.url().replace(_user_of(server), f"{server.EDGE}:{PASSWORD}")
    settings = prepared.env(
        POSTGRES_DSN=dsn,
        KAFKA_SASL_USERNAME="transom-ingest-edge",
        META_APP_SECRETS=SECRET,
        META_VERIFY_TOKEN="hello",
        HTTP_HOST=LOOPBACK,
    )
    command = [*COMMAND, "run", "ingest", "--role", "edge", "--port", str(free_port())]
    async with (
        open_pool(server.url(), application_name="test", size=1) as pool,
        running(*command, env=environment(**settings), stdout=subprocess.DEVNULL),
    ):

        async def known() -> bool:
            async with pool.acquire() as db:
                return bool(await db.fetchval("select exists (select from webhook_edges where left_at is null)"))

        await eventually_true(known, "the edge has told that it serves")


async def _done(*words: str, env: dict[str, str], says: str = "") -> str:
    ended = await asyncio.to_thread(transom, *words, env=env)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert says in ended.stdout
    return ended.stdout


Broken = Callable[[Secured], KafkaConnection]
KAFKA: dict[str, tuple[Broken, str]] = {
    "authority": (
        lambda s: replace(s.as_user(), ssl_cafile=str(s.stranger.file)),
        "no authority that is trusted here has signed its certificate",
    ),
    "host": (
        lambda s: replace(s.as_user(), bootstrap=f"localhost:{s.kafka.port}"),
        "its certificate is for another host name",
    ),
    "expired": (
        lambda s: replace(s.by_certificate(None), bootstrap=f"{LOOPBACK}:{s.kafka.expired_port}"),
        "its certificate has expired",
    ),
    "password": (
        lambda s: replace(s.as_user(), sasl_password=GUESS),
        "it refuses the user transom-ingest of TRANSOM_KAFKA_SASL_USERNAME, or the password",
    ),
    "password of plain": (
        lambda s: replace(s.as_user(ADMIN), sasl_password=GUESS, sasl_mechanism="PLAIN"),
        "it refuses the user admin of TRANSOM_KAFKA_SASL_USERNAME, or the password",
    ),
    "mechanism": (
        lambda s: replace(s.as_user(), sasl_mechanism="SCRAM-SHA-256"),
        "it does not take TRANSOM_KAFKA_SASL_MECHANISM=SCRAM-SHA-256",
    ),
    "no client certificate": (lambda s: s.by_certificate(None), "it asks for a client certificate"),
    "a stranger's client certificate": (
        lambda s: s.by_certificate(s.stranger.client("transom-router-too")),
        "it refuses the client certificate",
    ),
    "plain text": (
        lambda s: replace(s.as_user(), security_protocol="SASL_PLAINTEXT"),
        "it hangs up: does that listener speak TRANSOM_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT?",
    ),
    "TLS to plain text": (
        lambda s: replace(s.as_user(), bootstrap=f"{LOOPBACK}:{s.kafka.controller_port}"),
        "it hangs up: does that listener speak TRANSOM_KAFKA_SECURITY_PROTOCOL=SASL_SSL?",
    ),
    "no such file": (
        lambda s: replace(s.as_user(), ssl_cafile="/nowhere/ca.crt"),
        "TRANSOM_KAFKA_SSL_CAFILE: /nowhere/ca.crt cannot be read",
    ),
    "no key": (
        lambda s: replace(s.by_certificate(s.client), ssl_keyfile=None),
        "with the key beside it or in TRANSOM_KAFKA_SSL_KEYFILE",
    ),
    "no rights": (
        lambda s: s.by_certificate(s.authority.client("transom-nobody")),
        "give this service's user the rights that transom topics --acls prints",
    ),
}


@pytest.mark.parametrize(("broken", "cause"), KAFKA.values(), ids=KAFKA.keys())
async def test_why_kafka_is_not_reached_is_said_in_one_line(secured: Secured, broken: Broken, cause: str) -> None:
    connection = broken(secured)
    line = await refused(Producer(connection))
    assert cause in line
    if "FILE" not in line:
        assert connection.bootstrap in line


async def test_why_a_running_service_does_not_reach_kafka_is_known(secured: Secured) -> None:
    expired = replace(secured.by_certificate(None), bootstrap=f"{LOOPBACK}:{secured.kafka.expired_port}")
    why = str(await eventually_true(expired.cause, "the cause is found within its moment"))
    assert why.startswith(f"{expired.bootstrap}: its certificate has expired")
    assert await secured.as_user().cause() is None
    gone = await replace(secured.as_user(), ssl_cafile="/nowhere/ca.crt").cause()
    assert gone == "TRANSOM_KAFKA_SSL_CAFILE: /nowhere/ca.crt cannot be read (FileNotFoundError)"


async def test_a_certificate_and_its_key_may_stand_in_one_file(secured: Secured) -> None:
    alone = secured.by_certificate(Identity(secured.client.pem, secured.client.pem, secured.client.pem))
    admin = AIOKafkaAdminClient(**replace(alone, ssl_keyfile=None).client_options())
    await admin.start()
    await admin.close()


async def test_postgresql_takes_a_password_or_a_client_certificate_and_says_what_is_wrong(secured: Secured) -> None:
    server = secured.postgres
    certified = secured.authority.client(server.CERTIFIED)
    by_certificate = server.url(sslcert=certified.cert, sslkey=certified.key).replace(
        _user_of(server), server.CERTIFIED
    )
    for good in (server.url(), by_certificate):
        async with open_pool(good, application_name="test", size=1) as pool, pool.acquire() as db:
            assert await db.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    where = f"postgres at {LOOPBACK}:{server.port} cannot be used"
    guest = "it refuses the user of TRANSOM_POSTGRES_DSN"
    for dsn, cause in (
        (server.url(sslrootcert=secured.stranger.file), "no authority that is trusted here has signed its certificate"),
        (server.url(host="localhost"), "its certificate is for another host name"),
        (server.url().replace(_user_of(server), f"transom:{GUESS}"), f"{guest}, or the password"),
        (server.url().replace(_user_of(server), server.CERTIFIED), "look at its pg_hba.conf, and at sslmode"),
        (server.url(sslmode="disable"), "look at its pg_hba.conf, and at sslmode"),
        (server.url(sslrootcert="/nowhere/ca.crt"), "a file of sslrootcert, sslcert or sslkey"),
        (f"{server.address}?sslmode=verify-full", "name its file with sslrootcert"),
    ):
        line = await refused(open_pool(dsn, application_name="test", size=1))
        assert cause in line
        assert line.startswith(where if "localhost" not in dsn else where.replace(LOOPBACK, "localhost"))
    with presenting(server, secured.authority.server("late-postgres", expired=True)):
        line = await refused(open_pool(server.url(), application_name="test", size=1))
        assert line == f"{where} (SSLCertVerificationError): its certificate has expired"


async def test_a_postgresql_without_tls_is_not_used_where_tls_is_asked_for(secured: Secured, postgres_dsn: str) -> None:
    line = await refused(open_pool(f"{postgres_dsn}?sslmode=verify-full&sslrootcert={secured.authority.file}",
                                   application_name="test", size=1))  # fmt: skip
    assert "it speaks no TLS, and sslmode in TRANSOM_POSTGRES_DSN asks for it" in line


async def test_redis_takes_its_user_over_tls_and_says_what_is_wrong(secured: Secured) -> None:
    server = secured.redis
    for prefix in ("bridge", "portal"):
        async with open_redis(server.url(), prefix=prefix) as opened:
            await eventually_true(partial(answers, opened))
    where = f"redis at {LOOPBACK}:{server.port} cannot be used"
    for url, cause in (
        (server.url(ca=secured.stranger.file), "no authority that is trusted here has signed its certificate"),
        (server.url(host="localhost"), "its certificate is for another host name"),
        (server.url(password=GUESS), "it refuses the user of TRANSOM_REDIS_URL, or the password"),
        (server.url(ca=Path("/nowhere/ca.crt")), "a file of ssl_ca_certs, ssl_certfile or ssl_keyfile"),
        (server.url().replace("rediss", "redis").partition("?")[0], "with rediss:// where it speaks TLS"),
    ):
        line = await refused(open_redis(url))
        assert cause in line
        assert line.startswith(where if "localhost" not in url else where.replace(LOOPBACK, "localhost"))
    with presenting(server, secured.authority.server("late-redis", expired=True)):
        assert "its certificate has expired" in await refused(open_redis(server.url()))
    server.asks_clients = True
    with presenting(server, server.identity):
        async with open_redis(server.url(client=secured.client)) as opened:
            await eventually_true(partial(answers, opened))
        for client, cause in (
            (None, "it asks for a client certificate"),
            (secured.stranger.client("redis-stranger"), "it does not trust the authority of the client certificate"),
            (replace(secured.client, key=Path("/nowhere/tls.key")), "a file of ssl_ca_certs, ssl_certfile or"),
        ):
            line = await refused(open_redis(server.url(client=client)))
            assert cause in line
            assert line.startswith(where)
        server.asks_clients = False  # for the start with which the block ends


async def test_a_command_and_a_service_end_with_that_line(prepared: Secured) -> None:
    """Exit code 2, for each of the three servers, and for ingest that could wait for one of them."""
    secured, right = prepared, prepared.env()
    wrong_dsn = right["POSTGRES_DSN"].replace(str(secured.authority.file), str(secured.stranger.file))
    ingest = {"KAFKA_SASL_USERNAME": "transom-ingest", "META_APP_SECRETS": SECRET, "META_VERIFY_TOKEN": "hello"}
    lines = await asyncio.gather(
        asyncio.to_thread(complaint, "run", "ingest", env=environment(**right | ingest | {"POSTGRES_DSN": wrong_dsn})),
        asyncio.to_thread(complaint, "topics", env=environment(**right | {"KAFKA_SASL_PASSWORD": GUESS})),
        asyncio.to_thread(
            complaint, "run", "portal",
            env=environment(**right | {"REDIS_URL": secured.redis.url(password=GUESS), "PORTAL_LINK_KEYS": "k" * 32,
                                       "KAFKA_SASL_USERNAME": "transom-portal"}),
        ),
    )  # fmt: skip
    told = dict(zip(("postgres", "kafka", "redis"), lines, strict=True))
    assert "cannot be administered: it refuses the user transom-operator" in told["kafka"]
    # ingest serves on without PostgreSQL, and not with one that it must not trust
    assert "no authority that is trusted here has signed its certificate" in told["postgres"]
    assert "it refuses the user of TRANSOM_REDIS_URL, or the password" in told["redis"]
    assert not any(GUESS in line or PASSWORD in line for line in lines)


def _user_of(server: TlsPostgres) -> str:
    """``user:password`` as the address has it."""
    return server.address.removeprefix("postgresql://").partition("@")[0]
