"""Words that switch SMS off and on."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.directory.sms_keywords import sms_word_of


@pytest.mark.parametrize(
    "text",
    [
        "STOP",
        "stop",
        " Stop ",
        "stop.",
        "STOP!",
        "Stop!!!",
        "stop..",
        '"STOP"',
        "\u201cStop\u201d",
        "STOP .",
        "\u00a0sToP\u200b",
        "\uff33\uff34\uff2f\uff30",
        "s t o p",
        "stop\u3002",
        "STOP" + " " * 61,
        "\n" * 500 + "STOP",
        "STOP\ufe0f",
        "sto\u034fp\u180b",
    ],
)
@pytest.mark.parametrize("country", ["GB", "DE", "TR", "XX", None])
@pytest.mark.parametrize("provider", ["twilio", "vonage"])
def test_stop_is_a_stop_everywhere(text: str, country: str | None, provider: str) -> None:
    assert sms_word_of(text, country, provider) == "stop"


@pytest.mark.parametrize("text", ["STOP?", "CANCEL!", "please stop", "stop it", "", ".", "stoppen sie", "nonstop"])
def test_a_sentence_or_another_mark_is_none(text: str) -> None:
    assert sms_word_of(text, "GB", "vonage") is None


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("Abmelden", "DE"),
        ("STOPP", "AT"),
        ("Arrêt", "FR"),
        ("arrêt", "CH"),
        ("BAJA", "ES"),
        ("Afmelden.", "BE"),
        ("İPTAL", "TR"),
        ("CANCEL", "GB"),
        ("Désinscription", "CA"),
        ("Unsubscribe", "JM"),
        ("opt-out", "HK"),
        ("退订", "HK"),
        ("Odhlásiť.", "SK"),
        ("СТОП", "UA"),
        ("Leiratkozás", "HU"),
        ("הסר", "IL"),
        *(("Abbestellen", "LU"), ("Arrêter", "LU"), ("Austragen", "CH"), ("Ferma", "CH")),
        *(("Arrêt", "BE"), ("Abmelden", "BE"), ("Afmelden", "NL"), ("Unsubscribe", "MT"), ("Cancel", "CA")),
        *(("Alto", "MX"), ("Detener", "AR"), ("Sair", "BR"), ("Pare", "PT"), ("Parar", "AO"), ("Disiscrivi", "IT")),
        *(("Avregistrera", "SE"), ("Afmeld", "DK"), ("Avmeld", "NO"), ("Lopeta", "FI"), ("Avregistrera", "FI")),
        *(("Rezygnuję", "PL"), ("Odhlásit", "CZ"), ("Dezabonare", "RO"), ("Oprire", "MD")),
        *(("Odjava", "HR"), ("Odjava", "SI"), ("Odjavi", "RS"), ("Стоп", "BG"), ("СТОП", "RU"), ("Стоп", "KZ")),
        *(("ΔΙΑΚΟΠΉ", "GR"), ("ΔΙΑΚΟΠΗ", "CY"), ("Iptal", "CY"), ("Cancel", "CY")),
        *(("수신거부", "KR"), ("TD", "CN"), ("退訂", "TW")),
    ],
)
def test_a_word_counts_in_the_countries_of_its_language(text: str, country: str) -> None:
    assert sms_word_of(text, country, "vonage") == "stop"
    assert sms_word_of(unicodedata.normalize("NFD", text), country, "vonage") == "stop"
    assert sms_word_of(text, "JP", "vonage") is None


def test_japanese_counts_in_japan() -> None:
    assert sms_word_of("配信停止", "JP", "vonage") == "stop"
    assert sms_word_of("配信停止", "CN", "vonage") is None


@pytest.mark.parametrize(("text", "country"), [("Отказ", "BG"), ("nein danke", "DE"), ("ok.", "RO"), ("да", "BG")])
def test_an_ordinary_answer_to_an_offer_is_none(text: str, country: str) -> None:
    assert sms_word_of(text, country, "vonage") is None


@pytest.mark.parametrize(
    "text",
    ["STOPALL", "unsubscribe", "Cancel", "END", "quit", "revoke", "OptOut", "opt-out", "Opt\u2010Out", "opt\u2011out"],
)
def test_twilios_own_words_count_in_every_country_by_twilio_alone(text: str) -> None:
    assert sms_word_of(text, "DE", "twilio") == "stop"
    assert sms_word_of(text, "DE", "vonage") is None


@pytest.mark.parametrize("provider", ["twilio", "vonage"])
def test_start_and_unstop_are_starts_and_yes_may_be_an_answer(provider: str) -> None:
    assert sms_word_of("Start.", "GB", provider) == "start"
    assert sms_word_of("UNSTOP", "DE", provider) == "start"
    assert sms_word_of("yes", "GB", provider) == ("maybe_start" if provider == "twilio" else None)


@given(st.text(max_size=80), st.sampled_from(["GB", "DE", "FR", "TR", None]), st.sampled_from(["twilio", "vonage"]))
def test_any_text_has_an_answer_and_a_longer_one_is_none(text: str, country: str | None, provider: str) -> None:
    sms_word_of(text, country, provider)
    assert sms_word_of(f"{text} my car is red and I am here", country, provider) is None
