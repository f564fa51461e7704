"""How the providers write and sign what they post. No I/O."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploy.local.sandbox.schemas import Json


@dataclass(frozen=True, slots=True)
class Secrets:
    app_secret: str
    verify_token: str
    graph_tokens: frozenset[str]
    twilio_sid: str
    twilio_token: str
    vonage_key: str
    vonage_secret: str
    vonage_signature: str


def meta_json(body: Json) -> bytes:
    r"""Bytes as Meta writes them: ASCII, ``\uXXXX`` in lower case, ``/`` as ``\/``, no spaces."""
    return json.dumps(body, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def meta_signature(app_secret: str, raw: bytes) -> str:
    """The value of ``X-Hub-Signature-256``: HMAC-SHA256 over exactly the bytes sent."""
    return "sha256=" + hmac.new(app_secret.encode(), raw, hashlib.sha256).hexdigest()


def twilio_signature(auth_token: str, url: str, params: Iterable[tuple[str, str]]) -> str:
    """The value of ``X-Twilio-Signature``.

    Base64 of HMAC-SHA1 over the URL as configured, followed by each parameter's name and value, sorted by name;
    the values of a repeated name are taken once each, sorted.
    """
    text = url + "".join(name + value for name, value in sorted(set(params)))
    return base64.b64encode(hmac.new(auth_token.encode(), text.encode(), hashlib.sha1).digest()).decode("ascii")


def vonage_signature(secret: str, fields: Mapping[str, str]) -> str:
    """The field ``sig``: HMAC-SHA-256 over ``&name=value`` by name, ``&`` and ``=`` in values as ``_``."""
    text = "".join(f"&{name}={fields[name].replace('&', '_').replace('=', '_')}" for name in sorted(fields))
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest().upper()
