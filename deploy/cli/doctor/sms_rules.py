"""What Twilio's and Vonage's answers about accounts and numbers say, against what Transom needs. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.graph_rules import objects

_LOW = 1.0


def twilio_account(subject: str, body: Mapping[str, Any]) -> Iterator[Finding]:
    status = body.get("status")
    if status not in ("active", None):
        word = status if status in ("suspended", "closed") else "not active"
        yield Finding(
            "sms_account_not_active",
            subject,
            f"The account is {word}, so nothing is sent.",
            "See the account in Twilio's console.",
        )
    if body.get("type") == "Trial":
        yield Finding(
            "sms_account_trial",
            subject,
            "It is a trial account: it sends to verified numbers alone, and writes its own words before each text.",
            "Upgrade the account.",
        )


def twilio_number(number: str, body: Mapping[str, Any], wanted: str | None) -> Iterator[Finding]:
    """One number. ``wanted``: the address that a customer's SMS is to be posted to; None: it is not looked at."""
    subject = f"number {number}"
    found = [one for one in objects(body.get("incoming_phone_numbers")) if one.get("phone_number") == number]
    if not found:
        yield _unknown(subject)
        return
    one = found[0]
    capabilities = one.get("capabilities")
    if isinstance(capabilities, dict) and capabilities.get("sms") is False:
        yield _cannot_send(subject)
    if wanted is None:
        return
    if one.get("sms_application_sid"):
        yield Finding(
            "sms_webhook_unseen",
            subject,
            "An application decides where its SMS go, and that was not looked at.",
            f"See that the application posts to {wanted}, or take the application away from the number.",
        )
    elif one.get("sms_url") != wanted or str(one.get("sms_method", "POST")).upper() != "POST":
        yield _elsewhere(subject, wanted)


def twilio_service(subject: str, body: Mapping[str, Any], wanted: str | None) -> Iterator[Finding]:
    """A Messaging Service: it may keep customers' SMS from the webhooks of its numbers."""
    decides = body.get("use_inbound_webhook_on_number") is False
    if decides and wanted is not None and body.get("inbound_request_url") != wanted:
        yield _elsewhere(subject, wanted)


def vonage_balance(subject: str, body: Mapping[str, Any]) -> Iterator[Finding]:
    value = body.get("value")
    if isinstance(value, int | float) and value < _LOW and body.get("autoReload") is not True:
        yield Finding(
            "sms_balance_low",
            subject,
            "The balance is below 1 EUR and is not filled up by itself.",
            "Top it up, and switch auto-reload on.",
        )


def vonage_number(number: str, body: Mapping[str, Any], wanted: str | None) -> Iterator[Finding]:
    subject = f"number {number}"
    found = [one for one in objects(body.get("numbers")) if str(one.get("msisdn")) == number.lstrip("+")]
    if not found:
        yield _unknown(subject)
        return
    features, url = found[0].get("features"), found[0].get("moHttpUrl")
    if isinstance(features, list) and "SMS" not in features:
        yield _cannot_send(subject)
    if wanted is None:
        return
    if not url:
        yield Finding(
            "sms_webhook_unseen",
            subject,
            "It has no webhook of its own, and the account's default cannot be read.",
            f"See in Vonage's dashboard that inbound SMS are posted to {wanted}.",
        )
    elif url != wanted:
        yield _elsewhere(subject, wanted)


def _unknown(subject: str) -> Finding:
    return Finding(
        "sms_number_unknown",
        subject,
        "The account has no such number, so it can neither send from it nor receive.",
        "Correct sms_number or sms_account of the organisation, or buy the number.",
    )


def _cannot_send(subject: str) -> Finding:
    return Finding("sms_number_cannot_send", subject, "The number has no SMS.", "Choose a number with SMS.")


def _elsewhere(subject: str, wanted: str) -> Finding:
    return Finding(
        "sms_webhook_elsewhere",
        subject,
        "A customer's SMS is posted to another address than ingest's, or not by POST.",
        f"Set its webhook to POST {wanted}.",
    )
