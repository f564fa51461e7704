"""What customers do by SMS: the control call ``customer texts``, and Twilio's own handling of STOP."""

import secrets

from pydantic import BaseModel, ConfigDict

from deploy.local.sandbox.schemas import Json
from deploy.local.sandbox.segments import segments
from deploy.local.sandbox.webhooks import Webhook
from deploy.local.sandbox.world import World

STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
START = frozenset({"START", "YES", "UNSTOP"})


class CustomerTexts(BaseModel):
    """A customer's SMS to one of the business's numbers. The keywords opt them out or in at Twilio."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phone: str
    to: str
    text: str = "Is my car ready?"


def texts(world: World, ask: CustomerTexts) -> Json:
    """Send the SMS; answers ``{sid}``."""
    word, sid = ask.text.strip().upper(), "SM" + secrets.token_hex(16)
    if word in STOP:
        world.sms_recipients[ask.phone] = "opted_out"
    elif word in START:
        world.sms_recipients.pop(ask.phone, None)
    form = {
        "ToCountry": "GB",
        "SmsMessageSid": sid,
        "NumMedia": "0",
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
    if word in STOP | START:
        form["OptOutType"] = "STOP" if word in STOP else "START"
    world.webhook_sender.chain([(0.0, Webhook("twilio", world.behaviour.sms_url, "sms", sid, None, form))])
    return {"sid": sid}
