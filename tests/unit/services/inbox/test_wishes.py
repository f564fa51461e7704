"""What staff and programs wish for, and what becomes an intent."""

from libs.common.events.intents import Intent
from services.inbox.sending import Wish


def test_every_field_of_an_intent_but_those_of_the_token_can_be_wished_for() -> None:
    assert set(Intent.model_fields) - set(Wish.__dataclass_fields__) == {"type", "intent_id", "org_id", "actor"}
