"""``python3 -m deploy.local.compose_secrets``: the secrets and addresses that deploy/compose.yaml reads.

Rule 1: what is there stays. A file is written once, and never again.
Rule 2: nothing is guessable. What Transom and its servers share is drawn here; what a provider gave is asked for.
Rule 3: only the user of this machine may enter the folder. A container's user reads its file there, so the files
        themselves are readable.

It runs on a machine with Docker and Python alone, so it imports the standard library alone.
"""

import argparse
import os
import secrets
import stat
import sys
from pathlib import Path

FOLDER, ENV = "secrets", ".env"
OF_PROVIDERS = {
    "meta_app_secrets": "the app secret of Meta's app; several joined by commas",
    "whatsapp_token": "the system user's token",
    "twilio_auth_tokens": "the account's auth token; several joined by commas",
}
"""What a provider gave: asked for, or drawn where the sandbox plays the provider."""
MOUNTED = ("alerts", "compose", "dashboards", "../examples/garage.yaml")
"""What containers read beside secrets. Their users are others, and a strict umask keeps those out of a checkout."""
_AUTHORITY = "/var/lib/transom/authority/authority.pem"
_OWN = """\
# How the outside reaches Transom, and the account at Twilio: deploy/env.example explains each. Fill in what is empty.
TRANSOM_PUBLIC_URL=
TRANSOM_PORTAL_URL=
TRANSOM_INBOX_URL=
TRANSOM_TWILIO_ACCOUNT_SID=
# How many proxies stand in front of portal and inbox.
TRANSOM_TRUSTED_PROXIES=1
"""
_SANDBOX = """\
# The sandbox plays Meta and Twilio. Remove this file and the folder `secrets` before real providers take its place.
COMPOSE_PROFILES=sandbox
TRANSOM_PUBLIC_URL=http://ingest:8080
TRANSOM_PORTAL_URL=http://127.0.0.1:8082
TRANSOM_INBOX_URL=http://127.0.0.1:8083
TRANSOM_TWILIO_ACCOUNT_SID=AC{account}
TRANSOM_GRAPH_BASE_URL=https://sandbox:8443
TRANSOM_TWILIO_BASE_URL=https://sandbox:8443
AUTHORITIES={authority}
"""


def drawn(folder: Path, *, sandbox: bool) -> dict[str, str]:
    """Secrets by the name of their file. Those of providers are among them for the sandbox alone.

    The addresses of servers have the passwords that ``folder`` holds.
    """
    postgres, valkey = (_kept(folder / f"{server}_password", 24) for server in ("postgres", "valkey"))
    found = {
        "postgres_admin_password": secrets.token_hex(24),
        "postgres_password": postgres,
        "postgres_dsn": f"postgresql://transom:{postgres}@postgres:5432/transom",
        "valkey_password": valkey,
        "valkey_conf": f"requirepass {valkey}",
        "redis_url": f"redis://:{valkey}@valkey:6379/0",
        "meta_verify_token": secrets.token_hex(16),
        "portal_link_keys": secrets.token_hex(32),
        "jwt_keys": secrets.token_hex(32),
        "grafana_password": secrets.token_hex(16),
    }
    return found | ({name: secrets.token_hex(16) for name in OF_PROVIDERS} if sandbox else {})


def prepare(deploy: Path, *, sandbox: bool) -> list[str]:
    """Write into ``deploy`` what is missing. Returns what the user has to do before Compose can start, a line each."""
    env, folder = deploy / ENV, deploy / FOLDER
    if env.exists() and sandbox != ("COMPOSE_PROFILES=sandbox" in env.read_text(encoding="utf-8")):
        wanted, there = ("the sandbox", "real providers") if sandbox else ("real providers", "the sandbox")
        end = f"run docker compose --file {deploy / 'compose.yaml'} down --volumes, which removes all data"
        return [f"{env} was written for {there}: {end}, then remove it and {folder}, before you start with {wanted}"]
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    for name, value in drawn(folder, sandbox=sandbox).items():
        _write(folder / name, value, 0o444)
    _write(env, _SANDBOX.format(account=secrets.token_hex(16), authority=_AUTHORITY) if sandbox else _OWN, 0o600)
    missing = [f"write {folder / name}: {what}" for name, what in OF_PROVIDERS.items() if not (folder / name).exists()]
    missing += [f"set {name} in {env}" for name, value in read_env(env).items() if not value]
    mounted = [*(deploy / name for name in MOUNTED), *sorted(folder.iterdir())]
    closed = [str(path) for path in mounted if not _is_open(path)]
    return missing + ([f"run chmod -R o+rX {' '.join(closed)}: users of containers read them"] if closed else [])


def _is_open(path: Path) -> bool:
    """Whether every user can read a file, or a folder with all that is in it. What is missing is no concern."""
    return all(
        one.stat().st_mode & stat.S_IROTH and (not one.is_dir() or one.stat().st_mode & stat.S_IXOTH)
        for one in (path, *path.rglob("*"))
        if one.exists()
    )


def _kept(file: Path, bytes_: int) -> str:
    """What stands in the file already, or a fresh password: an address fits the password that its server has."""
    return file.read_text(encoding="utf-8").strip() if file.exists() else secrets.token_hex(bytes_)


def read_env(file: Path) -> dict[str, str]:
    """The variables of an env file."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}


def _write(file: Path, value: str, mode: int) -> None:
    """Write a file that is not there. It has its mode before it is filled."""
    if file.exists():
        return
    half = file.with_name(f"{file.name}.new")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as new:
        new.write(value if value.endswith("\n") else f"{value}\n")
    half.chmod(mode)
    half.rename(file)


def main() -> int:
    """Write what is missing; exits 2 and says what is left to do."""
    parser = argparse.ArgumentParser(
        "python3 -m deploy.local.compose_secrets", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--sandbox", action="store_true", help="for the simulated providers, with all their secrets")
    left = prepare(Path(__file__).parents[1], sandbox=parser.parse_args().sandbox)
    for line in left:
        sys.stderr.write(f"compose: {line}\n")
    return 2 if left else 0


if __name__ == "__main__":
    sys.exit(main())
