"""The examples that the laws of the decision are held against go every way that there is."""

from datetime import datetime

from hypothesis import given, settings

from libs.common.events.intents import BadIntent, Intent
from services.router.decide import decide
from services.router.facts import Facts
from tests.support.examples import examples
from tests.unit.services.router.builders import FACTS, INSTANTS, INTENTS

WAYS = {
    ("session", "whatsapp"),
    ("session", "sms"),
    ("session", "portal"),
    ("template", "whatsapp"),
    ("bridge", "sms"),
    ("silent", None),
    ("rejected", None),
}


def test_the_examples_of_the_laws_go_every_way() -> None:
    gone = set()

    @given(INTENTS, FACTS, INSTANTS)
    @settings(max_examples=examples(600))
    def go(intent: Intent | BadIntent, facts: Facts, now: datetime) -> None:
        decision = decide(intent, facts, now)
        gone.add((decision.route, decision.channel))

    go()
    assert gone == WAYS
