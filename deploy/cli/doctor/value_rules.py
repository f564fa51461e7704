"""What is wrong with the values of settings although each has its form. Pure.

The values come from the environment: by name without ``TRANSOM_``, in capitals. No finding holds a value.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from urllib.parse import urlsplit

from deploy.cli.doctor.findings import Finding

PREFIX = "TRANSOM_"
FILE_SUFFIX = "_FILE"

_PLACEHOLDER = re.compile(
    r"(?i)change.?me|replace.?me|fill.?me.?in|to.?do|secret|password|passw0rd|token|key|example|placeholder|dummy"
    r"|test|foo|bar|admin|x{3,}|0{4,}|123456\d*|your[-_ ].*|<.*>|\.{3}|…|AC…"
)
_KEYS = ("PORTAL_LINK_KEYS", "JWT_KEYS")
_FEW_CHARACTERS = 10
_SHORT_TOKEN = 12
_SERVICE_LINK = re.compile(r".*_(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT_\d+_(?:TCP|UDP)(?:_.*)?)")
_DAY = 86400.0


def variable(name: str) -> str:
    return f"{PREFIX}{name}"


def unknown_variables(values: Mapping[str, str], known: Collection[str], others: Collection[str]) -> Iterator[Finding]:
    """Variables that nothing reads, with the nearest name. What Kubernetes adds for a Service is none of them.

    ``others``: names that are no settings and may be there.
    """
    for name in sorted(values):
        base = name.removesuffix(FILE_SUFFIX)
        if name in others or base in known or name.startswith("TEST_") or _is_service_link(name, values[name]):
            continue
        near = get_close_matches(name, sorted(known), n=1, cutoff=0.75)
        hint = f"Write {variable(near[0])}, if that is meant, or remove it." if near else "Remove it."
        yield Finding("variable_unknown", variable(name), "No service reads a variable of this name.", hint)


def _is_service_link(name: str, value: str) -> bool:
    return _SERVICE_LINK.fullmatch(name) is not None or value.startswith(("tcp://", "udp://"))


def secret_values(values: Mapping[str, str], secrets: Collection[str]) -> Iterator[Finding]:
    """Placeholders, weak keys, short tokens, and one secret for two purposes."""
    places: dict[str, list[str]] = {}
    for name in sorted(secrets):
        for part in _parts(values.get(name, "")):
            places.setdefault(part, []).append(name)
            if _PLACEHOLDER.fullmatch(part):
                yield Finding(
                    "secret_placeholder",
                    variable(name),
                    "The value is a placeholder, or the first that somebody would guess.",
                    "Set the real secret; a key of Transom's own comes from: openssl rand -hex 32.",
                )
            elif name in _KEYS and _is_weak(part):
                yield Finding(
                    "key_weak",
                    variable(name),
                    "A key repeats a few characters, so it can be guessed.",
                    "Put a key from openssl rand -hex 32 in front, and take the weak one away once its links ended.",
                )
    token = values.get("META_VERIFY_TOKEN", "").strip()
    if 0 < len(token) < _SHORT_TOKEN and not _PLACEHOLDER.fullmatch(token):
        yield Finding(
            "token_short",
            variable("META_VERIFY_TOKEN"),
            f"The token has fewer than {_SHORT_TOKEN} characters, so a stranger may guess it.",
            "Set a longer one here and at Meta (openssl rand -hex 16).",
        )
    for names in sorted({tuple(dict.fromkeys(found)) for found in places.values()}):
        if len(names) > 1:
            yield Finding(
                "secret_reused",
                ", ".join(map(variable, names)),
                "These variables hold the same secret, so whoever knows one knows the others.",
                "Give each its own.",
            )


def _parts(joined: str) -> list[str]:
    return [part.strip() for part in joined.split(",") if part.strip()]


def _is_weak(key: str) -> bool:
    """Whether it has few different characters, or repeats its beginning."""
    repeated = any(key == (key[:size] * len(key))[: len(key)] for size in range(1, len(key) // 2 + 1))
    return repeated or len(set(key)) < _FEW_CHARACTERS


def is_this_machine(host: str | None) -> bool:
    """Whether a host is reached on this machine alone."""
    name = (host or "").lower()
    try:
        return name == "localhost" or name.endswith(".localhost") or ip_address(name).is_loopback
    except ValueError:
        return False


def host_of(url: str) -> str | None:
    """The host of an address; None where it has none that can be read."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def addresses(values: Mapping[str, str], services: Collection[str]) -> Iterator[Finding]:
    """What Transom's own addresses and their proxies lack. ``services``: those that this environment is for."""
    graph_is_real = not is_this_machine(host_of(values.get("GRAPH_BASE_URL") or "https://graph.facebook.com"))
    if {"ingest", "sms-bridge"} & set(services):
        yield from _public_url(values.get("PUBLIC_URL", ""), graph_is_real=graph_is_real)
    portal, inbox = values.get("PORTAL_URL", ""), values.get("INBOX_URL", "")
    if "portal" in services:
        yield from _people(
            portal, "portal", "customers reach the portal, and links need a portal_host of each organisation"
        )
    if "inbox" in services:
        yield from _people(inbox, "inbox", "staff reach the inbox")
    behind = [url for service, url in (("portal", portal), ("inbox", inbox)) if service in services]
    if any(url.startswith("https://") and not is_this_machine(host_of(url)) for url in behind) and not (
        values.get("TRUSTED_PROXIES", "").strip(" 0")
    ):
        yield Finding(
            "proxies_not_trusted",
            variable("TRUSTED_PROXIES"),
            "A proxy ends TLS in front of the pages, but none is trusted to name the client's address."
            " Limits by address then count all people as one.",
            "Set it to the number of proxies in front of the service.",
        )


def _public_url(url: str, *, graph_is_real: bool) -> Iterator[Finding]:
    if not url:
        yield Finding(
            "public_url_missing",
            variable("PUBLIC_URL"),
            "It is not set. No SMS status and no customer's SMS is accepted without it.",
            "Set it to how providers reach ingest, for example https://hooks.example.com.",
        )
    elif graph_is_real and (url.startswith("http://") or is_this_machine(host_of(url))):
        yield Finding(
            "public_url_plain",
            variable("PUBLIC_URL"),
            "Meta posts webhooks to a public https address alone, and this is none.",
            "Put a proxy with TLS in front of ingest, and set its https address.",
        )


def _people(url: str, service: str, who: str) -> Iterator[Finding]:
    name = variable(f"{service.upper()}_URL")
    if not url:
        yield Finding(
            f"{service}_url_missing",
            name,
            f"It is not set, so on this machine alone {who}.",
            f"Set it to the https address of the proxy in front of the {service}.",
        )
    elif url.startswith("http://") and not is_this_machine(host_of(url)):
        return  # the settings refuse it, and say so
    elif is_this_machine(host_of(url)) and url.startswith("https://"):
        yield Finding(
            f"{service}_url_local",
            name,
            "It is an address of this machine, which nobody else reaches.",
            f"Set it to the https address of the proxy in front of the {service}.",
        )


def windows(values: Mapping[str, str]) -> Iterator[Finding]:
    """A window that is not Meta's, beside Meta's own Graph API."""
    if is_this_machine(host_of(values.get("GRAPH_BASE_URL") or "https://graph.facebook.com")):
        return
    length, margin = _number(values.get("WINDOW_SECONDS"), _DAY), _number(values.get("WINDOW_MARGIN_SECONDS"), 0.0)
    if length is not None and length != _DAY:
        yield Finding(
            "window_not_a_day",
            variable("WINDOW_SECONDS"),
            "Meta's customer service window is 86400 seconds long, and this is another length.",
            "Remove the variable.",
        )
    if length and margin is not None and length / 4 < margin < length:
        yield Finding(
            "window_margin_wide",
            variable("WINDOW_MARGIN_SECONDS"),
            "The margin takes more than a quarter of the window away: replies that Meta would accept become SMS.",
            "Set seconds or minutes: as long as commands wait in queues.",
        )


def _number(text: str | None, default: float) -> float | None:
    try:
        return float(text) if text else default
    except ValueError:
        return None


def passwords_in_clear(values: Mapping[str, str]) -> Iterator[Finding]:
    """Passwords that go to another machine without TLS."""
    hosts = [part.strip().rpartition(":")[0] for part in values.get("KAFKA_BOOTSTRAP", "localhost:9092").split(",")]
    if values.get("KAFKA_SECURITY_PROTOCOL") == "SASL_PLAINTEXT" and not all(map(is_this_machine, hosts)):
        yield _in_clear("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    redis = values.get("REDIS_URL", "")
    if redis.startswith("redis://") and "@" in redis and not is_this_machine(host_of(redis)):
        yield _in_clear("REDIS_URL", "rediss://")


def _in_clear(name: str, instead: str) -> Finding:
    return Finding(
        "password_in_clear",
        variable(name),
        "The password goes over the network in clear.",
        f"Use {instead}, unless the network between the machines is encrypted itself.",
    )
