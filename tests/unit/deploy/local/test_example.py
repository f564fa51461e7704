"""The example garage of ``transom up``: what a newcomer needs to see a bridge, a template and what both cost."""

from pathlib import Path

import yaml

from deploy.cli.load_format import read
from deploy.local.example import GARAGE, RATE_CARD
from services.inbox.template_limits import variables


def test_the_example_has_an_sms_number_approved_templates_and_prices_of_both(tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(yaml.safe_dump({"orgs": [GARAGE], "rate_card": RATE_CARD}))
    content = read(file).content
    (garage,) = content.orgs
    assert garage.sms_active
    assert garage.sms_number
    assert garage.currency == "GBP"
    assert [one.status for one in garage.templates] == ["APPROVED"] * 2
    assert all(variables(one.body) and not one.body.endswith("}}") for one in garage.templates)
    assert {("sms", "sms"), ("whatsapp", "utility")} <= {(one.channel, one.category) for one in content.rate_card}
