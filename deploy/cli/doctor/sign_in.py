"""The check of the inbox's identity provider: its metadata, its issuer, and the keys of its tokens."""

import aiohttp

from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.graph_rules import objects
from deploy.cli.doctor.http import NoReply, Reply, ask, open_http, shown
from deploy.cli.doctor.running import Tell
from deploy.cli.doctor.site import Site

_SUBJECT = "sign-in"
_OK = 200


async def look_at_sign_in(site: Site, tell: Tell) -> None:
    if not site.serves("inbox"):
        return
    if site.sign_in is None:
        tell(
            Finding(
                "sign_in_not_checked",
                _SUBJECT,
                "Nothing was looked at, because its settings are wrong.",
                "Mend the settings first.",
            )
        )
        return
    issuer, keys_url = site.sign_in.issuer, site.sign_in.keys_url
    if issuer is None and keys_url is None:
        tell(Finding("sign_in_none", _SUBJECT, "No identity provider is set; people sign in by development tokens."))
        return
    told: list[Finding] = []
    async with open_http() as http:
        if issuer is not None:
            keys_url = await _metadata(http, issuer, told.append) or keys_url
        if keys_url is not None:
            await _keys(http, keys_url, told.append)
    for finding in told:
        tell(finding)
    if not told:
        tell(Finding("sign_in_good", shown(issuer or keys_url or ""), "Its metadata and keys can be read."))


async def _metadata(http: aiohttp.ClientSession, issuer: str, tell: Tell) -> str | None:
    """The address of the keys, as the issuer's metadata has it."""
    subject = f"TRANSOM_OIDC_ISSUER {shown(issuer)}"
    reply = await ask(http, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if isinstance(reply, NoReply):
        tell(_unreached("issuer_unreachable", subject, reply))
        return None
    if reply.status != _OK or not reply.body:
        tell(
            Finding(
                "issuer_answer_wrong",
                subject,
                f"Its metadata is answered with HTTP {reply.status}, or is no JSON.",
                "Write the issuer exactly as the provider does, without .well-known.",
            )
        )
        return None
    if str(reply.body.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):
        tell(
            Finding(
                "issuer_differs",
                subject,
                "The metadata names another issuer, so every token is refused.",
                "Set TRANSOM_OIDC_ISSUER to the issuer that the metadata names.",
            )
        )
    methods = reply.body.get("code_challenge_methods_supported")
    if isinstance(methods, list) and "S256" not in methods:
        tell(Finding("issuer_flow_missing", subject, "It has no PKCE with S256.", "Enable it at the provider."))
    found = reply.body.get("jwks_uri")
    return found if isinstance(found, str) and found.startswith(("https://", "http://")) else None


async def _keys(http: aiohttp.ClientSession, url: str, tell: Tell) -> None:
    subject = f"keys at {shown(url)}"
    reply = await ask(http, url)
    if isinstance(reply, NoReply):
        tell(_unreached("keys_unreachable", subject, reply))
    elif isinstance(reply, Reply) and not [one for one in objects(reply.body.get("keys")) if one.get("kty") != "oct"]:
        tell(
            Finding(
                "keys_none",
                subject,
                f"There is no public key in the answer (HTTP {reply.status}), so every token is refused.",
                "Correct TRANSOM_JWKS_URL, or see the provider.",
            )
        )


def _unreached(code: str, subject: str, reply: NoReply) -> Finding:
    if reply.distrusted:
        return Finding(
            "issuer_certificate_bad", subject, f"TLS ends there: {reply.why}.", "See its certificate and this host's."
        )
    return Finding(
        "sign_in_silent" if reply.silent else code,
        subject,
        f"It cannot be asked: {reply.why}.",
        "See the address, and whether this host may reach it.",
    )
