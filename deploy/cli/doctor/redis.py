"""The check of Redis or Valkey: reached, new enough, writable, and not about to drop the slots of bridges."""

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.maint_notifications import MaintNotificationsConfig

from deploy.cli.doctor.certificates import look, tell_of
from deploy.cli.doctor.clocks import TOLERATED_SECONDS, apart
from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.running import CALL_SECONDS, Tell
from deploy.cli.doctor.site import Site
from libs.common.clock import unix_now
from libs.common.reaching import is_silence, words_of

LEAST_VERSION = 7
_NEARLY = 0.95
_SUBJECT = "Redis"
_DEFAULT_PORT = 6379
_GATE = (("set", "bridge:doctor", "", "NX", "GET", "PX", "1000"), ("eval", "return 1", "1", "bridge:doctor"))
"""The commands of the bridge's gate, on a key that nothing uses. They are asked about and never sent."""


async def look_at_redis(site: Site, tell: Tell) -> None:
    if not site.serves("router", "sms-bridge", "portal"):
        return
    if site.redis_url is None:
        tell(
            Finding(
                "redis_not_checked",
                _SUBJECT,
                "Nothing was looked at, because its settings are wrong.",
                "Mend the settings first.",
            )
        )
        return
    await _look_at_certificate(site.redis_url, tell)
    try:
        client = redis.asyncio.Redis.from_url(
            site.redis_url,
            client_name="transom-doctor",
            decode_responses=True,
            protocol=2,
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            socket_timeout=CALL_SECONDS,
            socket_connect_timeout=CALL_SECONDS,
        )
    except ValueError:
        tell(
            Finding(
                "redis_refused",
                _SUBJECT,
                "The address in TRANSOM_REDIS_URL is none of Redis.",
                "Write it as redis://:password@host:6379/0, or rediss:// with TLS.",
            )
        )
        return
    try:
        await _look(client, tell)
    except (RedisError, OSError, TimeoutError) as error:
        tell(_why_not(error))
    finally:
        await client.aclose()


def _why_not(error: BaseException) -> Finding:
    match error:
        case AuthenticationError():
            return Finding(
                "redis_refused",
                _SUBJECT,
                "The password or the user is wrong, or one is missing.",
                "Correct them in TRANSOM_REDIS_URL: redis://user:password@host:6379/0.",
            )
        case BusyLoadingError():
            return Finding(
                "redis_loading", _SUBJECT, "It loads its data and answers nothing yet.", "Wait until it is loaded."
            )
        case NoPermissionError():
            return Finding(
                "redis_right_missing",
                _SUBJECT,
                "Its user may not even ask for the server's state or time.",
                "Allow +info and +time to the user, or run doctor with another one.",
            )
        case ResponseError():
            return Finding(
                "redis_refused",
                _SUBJECT,
                "It answers with an error to a plain question. Perhaps it is no Redis or asks for a password.",
                "See what listens at TRANSOM_REDIS_URL.",
            )
    if is_silence(error) or "Timeout" in type(error).__name__:
        return Finding(
            "redis_silent",
            _SUBJECT,
            f"There is no answer within {CALL_SECONDS:.0f} seconds, although the address may accept connections.",
            "See whether the server hangs, and whether TRANSOM_REDIS_URL leads to a Redis at all.",
        )
    return Finding(
        "redis_unreachable",
        _SUBJECT,
        f"It cannot be reached: {words_of(error)}.",
        "Start it, or set TRANSOM_REDIS_URL to where it listens. Services run and start without it meanwhile.",
    )


async def _look_at_certificate(url: str, tell: Tell) -> None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:
        return
    if parts.scheme == "rediss" and host is not None:
        tell_of(await look(host, port, _context(parts.query)), _SUBJECT, "redis", tell)


def _context(query: str) -> ssl.SSLContext:
    files = [part.partition("=")[2] for part in query.split("&") if part.startswith("ssl_ca_certs=")]
    try:
        return ssl.create_default_context(cafile=files[-1] if files else None)
    except (OSError, ssl.SSLError):
        return ssl.create_default_context()  # the connection says that the file cannot be read


async def _look(client: "redis.asyncio.Redis", tell: Tell) -> None:
    asked = unix_now()
    seconds, micros = await client.time()
    answered = unix_now()
    try:
        info: Mapping[str, Any] = await client.info()
    except NoPermissionError:
        info = {}
        tell(
            Finding(
                "redis_rights_unseen",
                "INFO",
                "The user may not ask for the server's state: version, memory and role were not looked at.",
                "Allow +info to the user, or run doctor with another one.",
            )
        )
    wrong = tell_info(info, tell, await _replicas_wanted(client)) if info else True
    off = apart(asked, seconds + micros / 1e6, answered)
    if off > TOLERATED_SECONDS:
        tell(
            Finding(
                "redis_clock",
                _SUBJECT,
                f"Its clock and this host's are {off:.0f} seconds apart.",
                "Let both hosts take their time from the network. Slots last by the server's own clock.",
            )
        )
    wrong = await _tell_rights(client, tell) or wrong
    if not wrong:
        name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
        tell(Finding("redis_good", _SUBJECT, f"It answers, as {name}."))


async def _replicas_wanted(client: "redis.asyncio.Redis") -> int:
    """How many replicas must follow, or no write is taken. 1 where the user may not ask: with 0 INFO counts none."""
    try:
        found: Any = await client.config_get("min-replicas-to-write")
        return int(found["min-replicas-to-write"])
    except (ResponseError, KeyError):
        return 1


def tell_info(info: Mapping[str, Any], tell: Tell, replicas_wanted: int) -> bool:
    """What the server's own state shows. Whether anything of it is wrong."""
    version = str(info.get("redis_version", "0"))
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    persists = int(info.get("aof_enabled", 0)) == 1 or "rdb_last_save_time" not in info
    failed = "err" in (info.get("rdb_last_bgsave_status"), info.get("aof_last_write_status"))
    wrong = (
        (
            _major(version) < LEAST_VERSION,
            "redis_old",
            f"It is version {version}; SET … NX GET needs {LEAST_VERSION}.",
            "Use Redis 7 or newer, or Valkey.",
        ),
        (
            info.get("role") != "master",
            "redis_read_only",
            "It is a replica, so nothing can be written.",
            "Point TRANSOM_REDIS_URL at the primary.",
        ),
        (
            (following := int(info.get("min_slaves_good_slaves", replicas_wanted))) < replicas_wanted,
            "redis_replicas_missing",
            f"Of {replicas_wanted} replicas (min-replicas-to-write) {following} follow, so it takes no writes.",
            "Start the replicas, or lower min-replicas-to-write.",
        ),
        (
            int(info.get("cluster_enabled", 0)) == 1,
            "redis_cluster",
            "It runs in cluster mode, and services speak to one server alone: keys of other nodes are refused (MOVED).",
            "Use a server with cluster-enabled no.",
        ),
        (
            most > 0 and policy != "noeviction",
            "redis_evicts",
            f"With {policy} it drops keys when memory is full, the slots of bridges among them.",
            "Set maxmemory-policy noeviction, or give these keys a server of their own.",
        ),
        (
            most > 0 and used > most * _NEARLY and policy == "noeviction",
            "redis_full",
            f"Of {most:,} bytes of memory {used:,} are used, and it drops nothing.",
            "Raise maxmemory, or see what fills it.",
        ),
        (
            failed,
            "redis_writes_stopped",
            "Its last write to the disk failed, so it may refuse writes (MISCONF).",
            "See its log and its disk.",
        ),
    )
    bad = False
    for holds, code, problem, remedy in wrong:
        if holds:
            tell(Finding(code, _SUBJECT, problem, remedy))
            bad = True
    if not persists:
        tell(
            Finding(
                "redis_not_persistent",
                _SUBJECT,
                "No append-only file is kept, so a restart forgets slots. PostgreSQL decides about bridges then.",
                "Set appendonly yes, if restarts are frequent.",
            )
        )
    return bad


def _major(version: str) -> int:
    head = version.partition(".")[0]
    return int(head) if head.isdecimal() else 0


async def _tell_rights(client: "redis.asyncio.Redis", tell: Tell) -> bool:
    """Whether the commands of the gate are allowed. Whether anything of it is wrong or unseen."""
    try:
        user = str(await client.acl_whoami())
        answers = [await client.acl_dryrun(user, *command) for command in _GATE]
    except ResponseError:
        tell(
            Finding(
                "redis_rights_unseen",
                "ACL",
                "The user may not ask what it may do, so its rights on bridge:* were not looked at.",
                "Allow +acl|whoami and +acl|dryrun to the user, or run doctor with another one.",
            )
        )
        return True
    refused = [command[0].upper() for command, answer in zip(_GATE, answers, strict=True) if answer != "OK"]
    if refused:
        tell(
            Finding(
                "redis_right_missing",
                _SUBJECT,
                f"Its user may not use {', '.join(refused)} on bridge:*.",
                "Allow +set +eval ~bridge:* to the user.",
            )
        )
    return bool(refused)
