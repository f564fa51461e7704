"""What a replay prints."""

from deploy.cli.replay.run import Run
from deploy.cli.replay.selection import Selection
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection


def test_what_records_say_cannot_move_the_terminals_cursor() -> None:
    run = Run(KafkaConnection("nowhere:9092", ""), Selection(WEBHOOKS, dlq=True), dry=True, limit=None, postgres=None)
    run.summary.numbers["1\x1b[2J"] += 1
    run.summary.kinds["unknown_number", "\x9b2J"] += 1
    run.summary.others["\u202eno"] += 1
    lines = run.lines()
    assert "  1 of number 1\N{REPLACEMENT CHARACTER}[2J" in lines
    assert all(line.isprintable() for line in lines)
