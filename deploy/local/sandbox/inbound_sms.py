"""What customers do by SMS: the control call ``customer texts``, and Twilio's own handling of STOP."""

import secrets
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from deploy.local.sandbox.clock import unix_now
from deploy.local.sandbox.schemas import Json
from deploy.local.sandbox.segments import segments
from deploy.local.sandbox.twilio_rules import Text, resource
from deploy.local.sandbox.vonage import inbound_forms
from deploy.local.sandbox.webhooks import Webhook
from deploy.local.sandbox.world import World

STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
START = frozenset({"START", "YES", "UNSTOP"})


class CustomerTexts(BaseModel):
    """A customer's SMS to one of the business's numbers. The keywords opt them out or in at Twilio.

    Twilio puts a long SMS together; Vonage posts each part, in ``order``. ``media``: links of an MMS, which Vonage has
    not. ``times``: how often each callback is posted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    phone: str
    to: str
    text: str = "Is my car ready?"
    provider: Literal["twilio", "vonage"] = "twilio"
    media: Annotated[tuple[str, ...], Field(max_length=10)] = ()
    times: Annotated[int, Field(ge=1, le=10)] = 1
    order: Literal["as_sent", "reversed"] = "as_sent"


def texts(world: World, ask: CustomerTexts) -> Json:
    """Send the SMS; answers ``{sid, ids}``. Raises ValueError for an MMS by Vonage."""
    if ask.provider == "vonage":
        if ask.media:
            raise ValueError("media: Vonage's SMS API has no MMS")
        url, name = world.behaviour.vonage_sms_url, "messageId"
        forms = inbound_forms(world.secrets.vonage_key, ask.phone, ask.to, ask.text)
    else:
        url, name = world.behaviour.sms_url, "MessageSid"
        forms = [_by_twilio(world, ask)]
    ids = [form[name] for form in forms]
    ordered = forms if ask.order == "as_sent" else forms[::-1]
    for form in (form for form in ordered for _ in range(ask.times)):
        world.webhook_sender.chain([(0.0, Webhook(ask.provider, url, "sms", form[name], None, form))])
    return {"sid": ids[0], "ids": ids}


def _record(form: dict[str, str], media: tuple[str, ...]) -> Json:
    """What Twilio keeps of it and lists, whatever becomes of the callback."""
    account, sid, now = form["AccountSid"], form["MessageSid"], unix_now()
    message = resource(account, sid, Text(form["To"], form["From"], None, form["Body"], None), now)
    message |= {"direction": "inbound", "status": "received", "num_media": form["NumMedia"]}
    message |= {"date_sent": message["date_created"]}
    files = [{"uri": f"{urlsplit(link).path}.json", "content_type": "image/jpeg", "parent_sid": sid} for link in media]
    return {"at": now, "sid": sid, "message": message, "files": files}


def _by_twilio(world: World, ask: CustomerTexts) -> dict[str, str]:
    word, sid = ask.text.strip().upper(), ("MM" if ask.media else "SM") + secrets.token_hex(16)
    if word in STOP:
        world.sms_recipients[ask.phone] = "opted_out"
    elif word in START:
        world.sms_recipients.pop(ask.phone, None)
    form = {
        "ToCountry": "GB",
        "SmsMessageSid": sid,
        "NumMedia": str(len(ask.media)),
        "SmsSid": sid,
        "SmsStatus": "received",
        "Body": ask.text,
        "FromCountry": "GB",
        "To": ask.to,
        "NumSegments": str(segments(ask.text)),
        "MessageSid": sid,
        "AccountSid": world.secrets.twilio_sid,
        "From": ask.phone,
        "ApiVersion": "2010-04-01",
    }
    for number, link in enumerate(ask.media):
        form |= {f"MediaUrl{number}": link, f"MediaContentType{number}": "image/jpeg"}
    world.ledger.received_sms.add(_record(form, ask.media))
    if word in STOP | START:
        form["OptOutType"] = "STOP" if word in STOP else "START"
    return form
