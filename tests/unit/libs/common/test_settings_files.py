"""``TRANSOM_<NAME>_FILE`` names a file with the value of ``TRANSOM_<NAME>``."""

import importlib
import inspect
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from libs.common import settings as module
from libs.common.errors import ConfigurationError
from libs.common.settings import (
    GraphSettings,
    HttpSettings,
    MetaWebhookSettings,
    PostgresSettings,
    Settings,
    SmsAccountSettings,
    load,
)
from libs.common.settings.files import SUFFIX, values_of_files

SECRET = "s3cret-content"
NAME = "TRANSOM_WHATSAPP_TOKEN"


def refusal(settings: type[Settings] = GraphSettings) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(settings)
    line = str(caught.value)
    assert SECRET not in line
    assert "\n" not in line
    return line


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the variable of the token names. It is not there yet."""
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.setenv(NAME + SUFFIX, str(tmp_path / "token"))
    return tmp_path / "token"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_line_ends_at_the_end_do_not_count_and_nothing_else_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("TRANSOM_VONAGE_SIGNATURE_SECRET_FILE", str(tmp_path / "secret"))
    (tmp_path / "secret").write_bytes(f"\ufeff {SECRET}\nline two \t{end}".encode())
    assert load(SmsAccountSettings).vonage_signature_secret.get_secret_value() == f" {SECRET}\nline two \t"


def test_every_setting_of_every_service_may_come_from_a_file(tmp_path: Path) -> None:
    classes = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if issubclass(cls, Settings)]
    for service in sorted(Path(__file__).parents[4].glob("services/*/settings.py")):
        found = inspect.getmembers(importlib.import_module(f"services.{service.parent.name}.settings"), inspect.isclass)
        classes += [cls for _, cls in found if issubclass(cls, Settings)]
    fields = {name: field for cls in classes for name, field in cls.model_fields.items()}
    assert [name for name in fields if name.upper().endswith(SUFFIX)] == []  # no variable has two meanings
    (tmp_path / "value").write_text("v\n")
    environ = {f"TRANSOM_{name.upper()}{SUFFIX}": str(tmp_path / "value") for name in fields}
    assert values_of_files(fields, "TRANSOM_", environ) == dict.fromkeys(fields, "v")
    assert any(field.annotation is SecretStr for field in fields.values())


def test_a_value_of_a_file_is_held_to_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSOM_HTTP_PORT_FILE", str(tmp_path / "port"))
    (tmp_path / "port").write_text("8099\n")
    assert load(HttpSettings).http_port == 8099
    (tmp_path / "port").write_text(SECRET)
    assert "TRANSOM_HTTP_PORT: input should be a valid integer" in refusal(HttpSettings)


def test_a_setting_that_is_given_twice_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(SECRET)
    monkeypatch.setenv(NAME, SECRET)
    assert f"{NAME} and {NAME}{SUFFIX} are both set: keep one of them" in refusal()


def test_an_empty_variable_beside_a_file_does_not_count(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(SECRET)
    monkeypatch.setenv(NAME, "")
    assert load(GraphSettings).whatsapp_token.get_secret_value() == SECRET


def test_an_empty_path_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSOM_POSTGRES_DSN_FILE", "")
    monkeypatch.setenv("TRANSOM_POSTGRES_DSN", "postgresql://here/transom")
    assert load(PostgresSettings).postgres_dsn.get_secret_value() == "postgresql://here/transom"


def test_a_link_to_a_file_is_followed(file: Path) -> None:
    real = file.with_name("..data")
    real.write_text(SECRET)
    file.symlink_to(real.name)  # as Kubernetes mounts a secret
    assert load(GraphSettings).whatsapp_token.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\r\n\n", "is empty"),
        (b"\xef\xbb\xbf\n", "is empty"),
        (SECRET.encode() + b"\xff", "is not UTF-8 text"),
        (SECRET.encode() + b"\0", "holds a zero byte"),
        (SECRET.encode() * 100_000, "is larger than 1 MiB"),
    ],
)
def test_a_file_that_holds_no_value_is_refused(file: Path, content: bytes, said: str) -> None:
    file.write_bytes(content)
    assert f"{NAME}{SUFFIX} names {file}, which {said}: " in refusal()


def test_what_is_no_readable_file_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{NAME}{SUFFIX} names {file}, which does not exist: " in refusal()
    os.mkfifo(file)  # reading it would wait for ever
    assert f"{file}, which is not a regular file: " in refusal()
    file.unlink()
    file.mkdir()
    assert f"{file}, which is not a regular file: " in refusal()
    monkeypatch.setenv(NAME + SUFFIX, f"{__file__}/below")
    assert f"{__file__}/below, which cannot be read (Not a directory): " in refusal()
    file.with_name("loop").symlink_to("loop")
    monkeypatch.setenv(NAME + SUFFIX, str(file.with_name("loop")))
    assert "which cannot be read (" in refusal()


def test_every_wrong_file_stands_in_one_line_without_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSOM_META_APP_SECRETS_FILE", "/no/\x1b[31mred\nfile")
    monkeypatch.setenv("TRANSOM_META_VERIFY_TOKEN_FILE", "/no/token")
    line = refusal(MetaWebhookSettings)
    assert line.isprintable()
    assert "TRANSOM_META_APP_SECRETS_FILE names /no/" in line
    assert "TRANSOM_META_VERIFY_TOKEN_FILE names /no/token" in line


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1))
def test_any_text_is_read_as_it_stands(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any-text"
    file.write_bytes(f"x{text}".encode())
    assert values_of_files(["X"], "", {"X_FILE": str(file)}) == {"X": f"x{text}".rstrip("\r\n")}
