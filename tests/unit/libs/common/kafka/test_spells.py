from libs.common.kafka.spells import QUIET_SECONDS, Spell


def test_what_never_happened_lasts_no_time() -> None:
    assert Spell().seconds(1000.0) == 0


def test_it_lasts_from_the_first_time_though_all_is_well_in_between() -> None:
    spell = Spell()
    for at in range(100, 300, 15):
        spell.happened(at, "UnsupportedCodecError")
    assert (spell.seconds(300), spell.cause) == (200, "UnsupportedCodecError")


def test_it_is_over_after_some_quiet_and_begins_anew() -> None:
    spell = Spell()
    spell.happened(100, "KafkaError")
    after = 101 + QUIET_SECONDS
    assert spell.seconds(after) == 0
    spell.happened(after, "KafkaError")
    assert spell.seconds(after + 5) == 5
