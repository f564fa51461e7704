"""What Meta's answers about token, app, accounts and numbers say, against what Transom needs. Pure.

Nothing is taken for granted of an answer: a field that is missing or of another type is as if it were not asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.cli.doctor.findings import Finding, some
from deploy.cli.doctor.queries import WhatsappNumber
from libs.common.events.fields import LATEST
from libs.common.phone import same_line

NEEDED_SCOPES = ("whatsapp_business_management", "whatsapp_business_messaging")
NEEDED_FIELDS = ("messages",)
USED_FIELDS = (
    "calls",
    "smb_message_echoes",
    "standby",
    "user_preferences",
    "message_template_status_update",
    "message_template_quality_update",
    "message_template_components_update",
    "template_category_update",
)
OBJECT = "whatsapp_business_account"
SOON = timedelta(days=14)
_BAD_TOKEN = (190, 104, 102)
_BAD_PARAMETER = 100
"""No such object, or not for this token."""
_THROTTLED = (4, 17, 32, 613, 80007, 80008)
_EXPIRED = 463
_NEARLY = 0.9
_GOOD_NAMES = ("APPROVED", "AVAILABLE_WITHOUT_REVIEW")
_WORDS_OF = {"whatsapp_business_management": "manage accounts", "whatsapp_business_messaging": "send and receive"}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def error_of(body: Mapping[str, Any]) -> tuple[int, int | None]:
    """Meta's code and subcode; 0 where it gives none."""
    error = body.get("error")
    if not isinstance(error, dict):
        return 0, None
    code, subcode = error.get("code"), error.get("error_subcode")
    return (code if isinstance(code, int) else 0), (subcode if isinstance(subcode, int) else None)


def is_refused_token(status: int, body: Mapping[str, Any]) -> bool:
    """Whether an answer says that the token is wrong, and not that Meta is busy or that a proxy answered."""
    return error_of(body)[0] in (*_BAD_TOKEN, _BAD_PARAMETER) or status == 401  # noqa: PLR2004


def refusal(subject: str, status: int, body: Mapping[str, Any]) -> Finding:
    """What an answer with an error means."""
    code, subcode = error_of(body)
    if code in _BAD_TOKEN:
        word, why = ("token_expired", "has expired") if subcode == _EXPIRED else ("token_invalid", "is not accepted")
        return Finding(
            word,
            subject,
            f"The token {why} (Meta's code {code}).",
            "Make a token of a system user in Meta's business settings, and set it.",
        )
    if code in _THROTTLED or status == 429:  # noqa: PLR2004
        return Finding(
            "graph_throttled",
            subject,
            f"Meta limits calls for now (code {code}), so this was not looked at.",
            "Run transom doctor again in an hour.",
        )
    if code == _BAD_PARAMETER:
        return Finding(
            "account_unknown",
            subject,
            "Meta knows no such account, or this token may not see it (code 100).",
            "Correct waba_id in the directory, or assign the account to the token's system user.",
        )
    if code in (10, *range(200, 300)):
        return Finding(
            "token_scope_missing",
            subject,
            f"The token may not read this (Meta's code {code}).",
            "Give the system user's token whatsapp_business_management.",
        )
    if status == 200 and not body:  # noqa: PLR2004
        return Finding(
            "graph_unreachable",
            subject,
            "What answers is not Meta's API (HTTP 200, and no JSON).",
            "See TRANSOM_GRAPH_BASE_URL, and what stands between this host and Meta.",
        )
    return Finding(
        "graph_answer_strange",
        subject,
        f"The answer was HTTP {status}, Meta's code {code or 'none'}, and was not understood.",
        "Try again; see Meta's status page.",
    )


def token_faults(subject: str, data: Mapping[str, Any], accounts: Sequence[str], now: datetime) -> Iterator[Finding]:
    """What ``debug_token`` says of a token that is to serve these accounts."""
    if data.get("is_valid") is False:
        yield Finding(
            "token_invalid",
            subject,
            "Meta says that the token is not valid.",
            "Make a token of a system user in Meta's business settings, and set it.",
        )
        return
    listed = data.get("scopes")
    scopes = listed if isinstance(listed, list) else []
    if lacks := [one for one in NEEDED_SCOPES if one not in scopes]:
        yield Finding(
            "token_scope_missing",
            subject,
            f"The token lacks {' and '.join(lacks)}, so it cannot {' or '.join(_WORDS_OF[one] for one in lacks)}.",
            "Make a token with both permissions.",
        )
    yield from _end(subject, data, now)
    for granular in objects(data.get("granular_scopes")):
        targets = granular.get("target_ids")
        if granular.get("scope") not in NEEDED_SCOPES or not isinstance(targets, list):
            continue  # without targets it counts for all
        if left_out := [one for one in accounts if one not in targets]:
            yield Finding(
                "token_not_for_account",
                f"account {some(left_out)}",
                f"The token's {granular['scope']} does not count for it.",
                "Assign the account to the token's system user, and make the token anew.",
            )


def _end(subject: str, data: Mapping[str, Any], now: datetime) -> Iterator[Finding]:
    ends = data.get("expires_at")
    if not isinstance(ends, int) or not 0 < ends < LATEST.timestamp():  # 0: it has no end
        return
    at = datetime.fromtimestamp(ends, UTC)
    if at <= now:
        yield Finding("token_expired", subject, f"The token ended at {at:%Y-%m-%d %H:%M} UTC.", "Make another.")
    elif at - now <= SOON:
        yield Finding(
            "token_expires",
            subject,
            f"The token ends in {(at - now).days} days, at {at:%Y-%m-%d %H:%M} UTC.",
            "Make a token of a system user, which may be without an end, and set it.",
        )


def app_faults(body: Mapping[str, Any], wanted: str | None) -> Iterator[Finding]:
    """What the app's subscriptions say. ``wanted``: the address of ingest's webhook; None: it is not known."""
    found = [one for one in objects(body.get("data")) if one.get("object") == OBJECT]
    if not found or found[0].get("active") is False:
        yield Finding(
            "app_subscription_missing",
            "app",
            "The app has no active webhook for WhatsApp, so no message comes in.",
            "Set callback URL and verify token in the app's WhatsApp configuration.",
        )
        return
    one = found[0]
    names = {str(field.get("name")) for field in objects(one.get("fields"))}
    if lacks := [name for name in NEEDED_FIELDS if name not in names]:
        yield Finding(
            "app_fields_missing",
            "app",
            f"The webhook is not subscribed to {some(lacks)}: neither messages nor statuses come.",
            "Subscribe to it in the app's WhatsApp configuration.",
        )
    if lacks := [name for name in USED_FIELDS if name not in names]:
        yield Finding(
            "app_fields_more",
            "app",
            f"The webhook is not subscribed to {some(lacks, 8)}, which Transom uses.",
            "Subscribe to them in the app's WhatsApp configuration.",
        )
    if wanted is not None and one.get("callback_url") != wanted:
        yield Finding(
            "webhook_elsewhere",
            "app",
            "The app's webhooks go to another address than ingest's.",
            f"Set the callback URL to {wanted}, or correct TRANSOM_PUBLIC_URL.",
        )


def subscribed_faults(account: str, body: Mapping[str, Any], app_id: str | None) -> Iterator[Finding]:
    """Whether this app is among those that the account sends webhooks to."""
    apps = [one.get("whatsapp_business_api_data") for one in objects(body.get("data"))]
    ids = [str(one.get("id")) for one in apps if isinstance(one, dict)]
    if not ids or (app_id is not None and app_id not in ids):
        yield Finding(
            "account_not_subscribed",
            f"account {account}",
            "The account is not subscribed to the app, so none of its webhooks come.",
            f"Subscribe it: POST /{account}/subscribed_apps with the token.",
        )


def number_faults(
    numbers: Sequence[WhatsappNumber], found: Sequence[Mapping[str, Any]], wanted: str | None
) -> Iterator[Finding]:
    """The directory's numbers of one account against those that Meta lists for it."""
    by_id = {str(one.get("id")): one for one in found}
    for number in numbers:
        subject = f"number {number.phone_number_id} of {number.org_id}"
        if (one := by_id.get(number.phone_number_id)) is None:
            yield Finding(
                "number_unknown",
                subject,
                f"Meta does not have it in account {number.waba_id}.",
                "Correct phone_number_id and waba_id in the directory, or remove the number.",
            )
            continue
        yield from _number(subject, number, one)
        yield from _webhook(subject, one.get("webhook_configuration"), wanted)


def _number(subject: str, number: WhatsappNumber, one: Mapping[str, Any]) -> Iterator[Finding]:
    shown, status = one.get("display_phone_number"), one.get("status")
    if isinstance(shown, str) and not _is_same(shown, number.display_number):
        yield Finding(
            "number_differs",
            subject,
            f"Its links lead to {number.display_number}, and Meta shows another number.",
            "Correct display_number in the directory: customers would write to somebody else.",
        )
    if isinstance(status, str) and status != "CONNECTED":
        yield Finding(
            "number_not_connected",
            subject,
            f"Its status is {_word(status)}, so it neither sends nor receives.",
            "See the number in WhatsApp Manager.",
        )
    quality, name = one.get("quality_rating"), one.get("name_status")
    if quality == "RED":
        yield Finding(
            "number_quality_low",
            subject,
            "Customers have blocked or reported it often (quality RED).",
            "Send fewer templates, and ask before you write first.",
        )
    if isinstance(name, str) and name not in (*_GOOD_NAMES, "NONE"):
        yield Finding(
            "number_name_open", subject, f"Its display name is {_word(name)}.", "See the name in WhatsApp Manager."
        )


def _is_same(shown: str, ours: str) -> bool:
    digits = "".join(character for character in shown if character.isdecimal())
    return same_line(f"+{digits}", ours)


def _word(text: str) -> str:
    """A word of Meta's, not more."""
    return text if len(text) <= 40 and text.replace("_", "").isalnum() else "unknown"  # noqa: PLR2004


def _webhook(subject: str, configuration: Any, wanted: str | None) -> Iterator[Finding]:
    """An address of the number's own, or of its account, goes before the app's."""
    if not isinstance(configuration, dict) or wanted is None:
        return
    for level, whose in (("phone_number", "number"), ("whatsapp_business_account", "account")):
        address = configuration.get(level)
        if isinstance(address, str) and address:
            if address != wanted:
                yield Finding(
                    "webhook_elsewhere",
                    subject,
                    f"Its webhooks go to an address of the {whose}'s own, which is not ingest's.",
                    f"Remove the override, or set it to {wanted}.",
                )
            return


def template_faults(account: str, body: Mapping[str, Any]) -> Iterator[Finding]:
    """How many templates the account has, of how many it may have."""
    summary = body.get("summary")
    if not isinstance(summary, dict):
        return
    count, limit = summary.get("message_template_count"), summary.get("message_template_limit")
    if count == 0:
        yield Finding(
            "templates_none",
            f"account {account}",
            "It has no template, so nothing can be sent on WhatsApp while a window is closed.",
            "Create templates in the inbox.",
        )
    if isinstance(count, int) and isinstance(limit, int) and limit > 0 and count > limit * _NEARLY:
        yield Finding(
            "templates_near_limit",
            f"account {account}",
            f"It has {count} of at most {limit} templates.",
            "Delete templates that nobody uses.",
        )
