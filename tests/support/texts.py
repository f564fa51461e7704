"""Customers' SMS as the providers' callbacks bring them, and signed as they sign."""

import hmac
from base64 import b64encode
from typing import Any
from uuid import uuid4

import aiohttp

ACCOUNT, TWILIO_TOKEN = "AC1", b"12345"
VONAGE_KEY, VONAGE_SECRET = "abcd1234", b"vonage signs with this"
PUBLIC_URL = "https://hooks.example"
CALLED, WRITER = "+447700900001", "+447700900999"


def a_twilio_sms(text: str = "Is my car ready?", **more: str) -> dict[str, str]:
    """The form of an SMS by Twilio."""
    return {
        "MessageSid": f"SM{uuid4().hex}",
        "AccountSid": ACCOUNT,
        "From": WRITER,
        "To": CALLED,
        "Body": text,
        "NumMedia": "0",
        "NumSegments": "1",
    } | more


def a_vonage_sms(text: str = "Is my car ready?", **more: str) -> dict[str, str]:
    """The form of an SMS by Vonage."""
    return {
        "api-key": VONAGE_KEY,
        "messageId": uuid4().hex[:16].upper(),
        "msisdn": WRITER.removeprefix("+"),
        "to": CALLED.removeprefix("+"),
        "type": "text",
        "text": text,
    } | more


def a_part(text: str, number: int, total: int, ref: str = "17", **more: str) -> dict[str, str]:
    """The form of one part of a concatenated SMS by Vonage."""
    concat = {"concat": "true", "concat-ref": ref, "concat-total": str(total), "concat-part": str(number)}
    return a_vonage_sms(text, **concat, **more)


async def post_twilio(http: aiohttp.ClientSession, url: str, form: dict[str, str], token: bytes = TWILIO_TOKEN) -> int:
    """Post it signed; the status of the answer."""
    path = "/webhooks/twilio/sms"
    signed = PUBLIC_URL + path + "".join(name + form[name] for name in sorted(form))
    signature = b64encode(hmac.digest(token, signed.encode(), "sha1")).decode()
    async with http.post(url + path, data=form, headers={"X-Twilio-Signature": signature}) as answer:
        await answer.read()
        return answer.status


async def post_vonage(http: aiohttp.ClientSession, url: str, form: dict[str, str], seconds: int) -> int:
    """Post it signed with the time ``seconds``; the status of the answer."""
    timed: dict[str, Any] = form | {"timestamp": str(seconds)}
    plain = "".join(f"&{name}={str(timed[name]).replace('&', '_').replace('=', '_')}" for name in sorted(timed))
    timed["sig"] = hmac.digest(VONAGE_SECRET, plain.encode(), "sha256").hex()
    async with http.post(f"{url}/webhooks/vonage/sms", data=timed) as answer:
        await answer.read()
        return answer.status
