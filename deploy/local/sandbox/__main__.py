"""``python -m deploy.local.sandbox``: the providers as a process.

Every option may come as ``SANDBOX_<OPTION>`` too, or from the file that ``SANDBOX_<OPTION>_FILE`` names.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
import yaml
from pydantic import ValidationError

from deploy.local.sandbox.authority import tls_context
from deploy.local.sandbox.behaviour import Behaviour
from deploy.local.sandbox.control import is_loopback
from deploy.local.sandbox.customers import Windows
from deploy.local.sandbox.kept_windows import KeptWindows
from deploy.local.sandbox.ledger import KEPT
from deploy.local.sandbox.oidc import OidcClient
from deploy.local.sandbox.server import serve
from deploy.local.sandbox.signing import Secrets
from deploy.local.sandbox.templates import Number, Template
from deploy.local.sandbox.world import Registered, World

FLAGS = ("immediate",)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m deploy.local.sandbox",
        description="Meta's Graph API, Twilio and Vonage, simulated by their own rules.",
    )
    add = _adder(parser)
    add("host", "127.0.0.1", "address to listen on")
    add("port", "0", "port to listen on; 0 takes a free one, the ready line names it")
    add("tls-port", "0", "a further port that speaks TLS; 0 is none")
    add("tls-names", "localhost", "host names of its certificate, comma-separated")
    add("tls-folder", "", "where the certificate of its authority is written, as authority.pem")
    add("webhook-url", "", "where Meta's webhooks go")
    add("sms-url", "", "where customers' SMS go")
    add("vonage-sms-url", "", "where customers' SMS go that come by Vonage")
    add("app-secret", "app-secret", "signs Meta's webhooks")
    add("verify-token", "verify-token", "of Meta's handshake")
    add("token", "graph-token", "accepted bearer tokens of the Graph API, comma-separated")
    add("twilio-sid", "AC" + "0" * 32, "the Twilio account")
    add("twilio-token", "twilio-token", "its auth token; signs callbacks")
    add("vonage-key", "sandbox1", "the Vonage account")
    add("vonage-secret", "vonage-secret", "its api secret")
    add("vonage-signature", "vonage-signature", "its signature secret; signs callbacks with SHA-256")
    add("oidc-client", "", "the client of the OpenID provider; none of the people can sign in without one")
    add("oidc-secret", "", "its secret")
    add("oidc-redirect", "", "its redirect address")
    add("day-seconds", "86400", "length of the customer service window")
    add("templates", "", "YAML or JSON file with numbers and templates, plain or by org as the load file has them")
    add("windows", "", "file that keeps the customers' windows over a restart; empty keeps none")
    add("config", "{}", "JSON object of further settings, see deploy/local/sandbox/behaviour.py")
    add("keep", str(KEPT), "how many calls, messages, texts and webhooks are remembered, each")
    add("immediate", "", "answer at once and send no webhooks")
    add("parent", "0", "pid of the process that starts the sandbox, to stop when that is gone; 0 stays")
    return parser


def _adder(parser: argparse.ArgumentParser) -> Callable[[str, str, str], None]:
    def add(name: str, default: str, meaning: str) -> None:
        given = _of_environment("SANDBOX_" + name.upper().replace("-", "_"), default)
        if name in FLAGS:
            parser.add_argument(f"--{name}", action="store_true", default=given not in ("", "0", "false"), help=meaning)
        else:
            parser.add_argument(f"--{name}", default=given, help=meaning)

    return add


def _of_environment(variable: str, default: str) -> str:
    if path := os.environ.get(f"{variable}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as wrong:
            sys.exit(f"sandbox: {variable}_FILE: {path} cannot be read ({type(wrong).__name__})")
    return os.environ.get(variable, default)


def read_registered(path: str) -> Registered:
    """Numbers and templates of a start file, at the top or under ``orgs[]``. A template is in its org's accounts."""
    if not path:
        return Registered()
    data: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    numbers = [Number.model_validate(item) for item in data.get("numbers", [])]
    templates = [Template.model_validate(item) for item in data.get("templates", [])]
    for org in data.get("orgs", []):
        own = [Number.model_validate(item) for item in org.get("numbers", [])]
        numbers += own
        for item in org.get("templates", []):
            templates += [
                Template.model_validate(item | {"waba_id": account})
                for account in sorted({number.waba_id for number in own})
            ]
    return Registered(tuple(numbers), tuple(templates))


def main() -> None:
    """Read the options, serve; exits 2 with one line when an option is wrong."""
    parser = options()
    given = parser.parse_args()
    try:
        start = Behaviour.model_validate(
            {
                "webhook_url": given.webhook_url,
                "sms_url": given.sms_url,
                "vonage_sms_url": given.vonage_sms_url,
                "day_seconds": given.day_seconds,
                "webhooks": not given.immediate,
            }
            | json.loads(given.config)
        )
        registered = read_registered(given.templates)
        windows = KeptWindows(Path(given.windows)) if given.windows else Windows()
        port, kept, parent = int(given.port), int(given.keep), int(given.parent)
        tls_port = int(given.tls_port)
        tls = (tls_port, tls_context(Path(given.tls_folder), given.tls_names.split(","))) if tls_port else None
    except (ValidationError, ValueError, OSError, yaml.YAMLError, TypeError, AttributeError) as wrong:
        parser.error(" ".join(str(wrong).split()))
    tokens = frozenset(token for token in given.token.split(",") if token)
    keys = Secrets(
        given.app_secret,
        given.verify_token,
        tokens,
        given.twilio_sid,
        given.twilio_token,
        given.vonage_key,
        given.vonage_secret,
        given.vonage_signature,
    )
    oidc = OidcClient(given.oidc_client, given.oidc_secret, given.oidc_redirect)
    if oidc.redirect and not is_loopback(given.host):
        parser.error("oidc-redirect: people sign in without a password, so the host must be a loopback address")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            world = World(keys, start, registered, kept, oidc, windows)
            runner.run(serve(world, given.host, port, parent=parent, tls=tls))
        except OSError as wrong:
            sys.exit(f"sandbox: cannot listen on {given.host}:{port}: {wrong.strerror}")


if __name__ == "__main__":
    main()
