"""Arguments of ``transom`` that no server takes are refused before any is asked."""

import pytest
from click.testing import CliRunner

from deploy.cli.command import main


@pytest.mark.parametrize("option", ["--partitions", "--retention-hours", "--replication-factor"])
def test_a_number_that_no_broker_takes_is_refused_by_its_option(option: str) -> None:
    told = CliRunner().invoke(main, ["topics", option, "99999999999"])
    assert told.exit_code == 2
    assert f"'{option}': 99999999999 is not in the range" in told.output


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "99999999999"])
def test_a_wait_without_an_end_is_refused_by_its_option(seconds: str) -> None:
    told = CliRunner().invoke(main, ["topics", "--partitions", "2", "--wait", seconds])
    assert told.exit_code == 2
    assert "Invalid value for '--wait'" in told.output
