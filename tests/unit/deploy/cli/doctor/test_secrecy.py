"""A secret is struck out of a text in every form in which it may stand there."""

import base64
import io
import json
from urllib.parse import quote, quote_plus

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli.doctor.findings import Finding, Report
from deploy.cli.doctor.output import write_json, write_words
from deploy.cli.doctor.secrecy import STARS, Secrets
from tests.support.doctor import PLANTED, SCHEMA, assert_secretless

texts = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=9, max_size=40)


@given(secret=texts, before=st.text(max_size=8), after=st.text(max_size=8))
def test_no_form_of_a_secret_is_left(secret: str, before: str, after: str) -> None:
    forms = (
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        base64.b64encode(secret.encode()).decode(),
    )
    secrets = Secrets([secret])
    for form in forms:
        shown = secrets.scrub(f"{before}{form}{after}")
        assert form not in shown
        assert STARS in shown


@given(user=st.text(st.characters(min_codepoint=48, max_codepoint=122), max_size=9))
def test_a_secret_within_base64_is_found_wherever_it_begins(user: str) -> None:
    header = base64.b64encode(f"{user}:{PLANTED}".encode()).decode()
    middle = base64.b64encode(PLANTED.encode()).decode()[4:-4]
    shown = Secrets([PLANTED]).scrub(f"Authorization: Basic {header}")
    assert STARS in shown
    assert middle not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_DSN", f"postgresql://u:{quote(PLANTED, safe='')}@h/d"),
        ("POSTGRES_DSN", f"postgresql://h/d?user=u&password={quote(PLANTED, safe='')}"),
        ("REDIS_URL", f"rediss://u:{quote(PLANTED, safe='')}@h:6379/0"),
        ("PUBLIC_URL", f"https://u:{quote(PLANTED, safe='')}@hooks.example"),
        ("JWT_KEYS", f"older-key-of-all,{PLANTED}"),
        ("UNKNOWN_TOKEN", PLANTED),
        ("SMS_ACCOUNTS", f'{{"a": {{"credentials": ["{PLANTED}"]}}}}'),
    ],
)
def test_the_secrets_of_every_kind_of_variable_are_known(name: str, value: str) -> None:
    secrets = Secrets.of_variables({name: value}, frozenset({"PUBLIC_URL"}))
    assert_secretless(secrets.scrub(f"it said: {PLANTED} and {quote(PLANTED, safe='')}"), {PLANTED})


@pytest.mark.parametrize("password", ["postgres", "redis", "error", "ever", "transom", "warning"])
def test_a_password_like_a_word_leaves_the_report_readable(password: str) -> None:
    secrets = Secrets.of_variables({"REDIS_URL": f"redis://:{password}@h:6379/0"}, frozenset())
    report = Report.of([Finding("redis_right_missing", "Redis", "Its user may never use SET.", "Run transom migrate.")])
    written, words = io.StringIO(), io.StringIO()
    write_json(report, secrets, written)
    jsonschema.validate(json.loads(written.getvalue()), SCHEMA)
    write_words(report, secrets, words)
    assert "Its user may never use SET." in words.getvalue()
    assert "(redis_right_missing)" in words.getvalue()
    assert "Run transom migrate." in words.getvalue()
    if password in {"error", "ever", "warning"}:
        assert password not in secrets.scrub(f"it said: {password}, {password}.")


@pytest.mark.parametrize("password", ["wrong", "missing", "value"])
def test_a_password_that_is_a_word_of_our_sentences_is_not_given_away_by_stars(password: str) -> None:
    secrets = Secrets.of_variables({"POSTGRES_DSN": f"postgresql://u:{password}@h/d"}, frozenset())
    said = "The password is wrong. A value is missing."
    assert secrets.scrub(said) == said


def test_words_that_are_no_secrets_stay() -> None:
    secrets = Secrets.of_variables({"KAFKA_BOOTSTRAP": "kafka.example:9092", "JWT_KEYS": ""}, frozenset())
    assert secrets.scrub("Kafka at kafka.example:9092 for twilio") == "Kafka at kafka.example:9092 for twilio"
