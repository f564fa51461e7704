"""The providers' behaviour: set at start, changed at run time by ``PATCH /_control/config``."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Chance = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


class Behaviour(BaseModel):
    """One frozen set of rules; a change replaces the whole.

    Chances of 0 and 1 are deterministic. ``shuffle=1`` always sends the statuses of a message in reverse, and
    ``repeat=1`` sends each webhook twice. ``batch=1`` always waits ``batch_wait`` for further updates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook_url: str = ""
    """Where Meta's webhooks go, unless a number overrides it. Empty: they are dropped."""
    sms_url: str = ""
    """Where a customer's SMS is posted (Twilio's "a message comes in"). Empty: dropped."""
    vonage_sms_url: str = ""
    """The same of Vonage ("inbound SMS webhook")."""
    day_seconds: Annotated[float, Field(gt=0)] = 86400
    """The length of the customer service window."""
    webhooks: bool = True
    """False: an immediate provider, which answers at once and never reports a status."""
    reengagement: Literal["late", "sync"] = "late"
    """A free-form message outside the window: 200 and a failed status later, or 131047 in the answer."""
    reaction_opens_window: bool = False
    """Meta does not say whether a reaction does."""
    read_receipts: bool = True
    implied_delivery: Chance = 0.0
    """How often ``delivered`` is left out because ``read`` implies it."""
    sent_after: Seconds = 0.02
    """Seconds from acceptance to ``sent``; the next two count from the status before."""
    delivered_after: Seconds = 0.03
    read_after: Seconds = 0.05
    failed_after: Seconds = 0.05
    template_review: Literal["auto", "hold"] = "auto"
    """Whether Meta's reviewer decides about new and edited templates by itself, or waits for the control API."""
    template_review_after: Seconds = 0.2
    shuffle: Chance = 0.1
    repeat: Chance = 0.1
    batch: Chance = 0.1
    batch_wait: Seconds = 0.05
    retry_first: Annotated[float, Field(gt=0)] = 60
    """Seconds of Meta's before a webhook is tried again; doubled each time up to ``retry_most``, for seven days."""
    retry_most: Annotated[float, Field(gt=0)] = 6 * 3600
    pace: Annotated[float, Field(gt=0)] = 1
    """Provider's seconds per second of ours between two tries of a webhook. With 60 a minute takes a second."""
    sms_trial: bool = False
    """Twilio writes a trial account's words before every text."""
    sms_smart_encoding: bool = False
    """Curly quotes, long dashes and the like are replaced by plain ones, in the record too."""
    sms_short_links: bool = False
    """Links are shortened, in the record too."""
    sms_redact_bodies: bool = False
    """Message body redaction: what was sent or refused shows no text."""
    sms_redact_numbers: bool = False
    """Phone number redaction: the last four digits are masked, and the whole number finds nothing."""
    sms_list_lag: Seconds = 0
    """Seconds until the list has a message, accepted or refused. Its sid finds it at once."""
    seed: int = 7

    def changed(self, **fields: object) -> "Behaviour":
        """These rules with some replaced; raises ``ValidationError`` for an unknown field or a bad value."""
        return Behaviour.model_validate(self.model_dump() | fields)
