"""Settings from files: ``TRANSOM_<NAME>_FILE`` names a file with the value of ``TRANSOM_<NAME>``.

An orchestrator mounts secrets as files. Unlike a variable, a file is seen neither in the description of a container
nor by its child processes.

Rule 1: a file is read once, at the start. A new content counts after a restart.
Rule 2: line ends at the end of the file do not count. Every other character does.
Rule 3: an error names the variable and the path, never the content.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from libs.common.errors import ConfigurationError
from libs.common.printable import printable

SUFFIX = "_FILE"
_BYTES_MOST = 1024 * 1024  # a wrong path may lead to a log or a database


class FileSource(PydanticBaseSettingsSource):
    """The fields whose variable with ``_FILE`` names a path. An empty variable counts as none."""

    def __call__(self) -> dict[str, Any]:
        """The values by field. Raises ConfigurationError: one line that says what is wrong with each file."""
        prefix = self.config.get("env_prefix", "")
        return values_of_files(self.settings_cls.model_fields, prefix, os.environ)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 -- the base class names it
        """Nothing: all fields are read at once, so that one error names every wrong file."""
        return None, field_name, False


def values_of_files(fields: Iterable[str], prefix: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What the files hold that ``environ`` names for these fields, by field.

    Raises ConfigurationError: one line that names each file that cannot be used, and each setting that is given twice.
    """
    given = {name.upper(): value for name, value in environ.items() if value}  # the case of a variable does not count
    values, faults = dict[str, str](), list[str]()
    for field in fields:
        variable = f"{prefix}{field}".upper()
        if (path := given.get(variable + SUFFIX)) is None:
            continue
        if variable in given:
            faults.append(f"{variable} and {variable}{SUFFIX} are both set: keep one of them")
            continue
        try:
            values[field] = _content(Path(path))
        except _UnusableError as fault:
            faults.append(f"{variable}{SUFFIX} names {printable(path)}, {fault}")
    if faults:
        raise ConfigurationError(f"configuration: {'; '.join(faults)}")
    return values


class _UnusableError(Exception):
    """Says what is wrong with a file, and what to do."""


def _content(path: Path) -> str:
    try:
        if not S_ISREG(path.stat().st_mode):  # a pipe without a writer would wait for ever
            raise _UnusableError("which is not a regular file: name a file that holds the value")
        with path.open("rb") as file:
            content = file.read(_BYTES_MOST + 1)
    except FileNotFoundError:
        raise _UnusableError("which does not exist: write the value into that file, or name another") from None
    except OSError as error:
        raise _UnusableError(f"which cannot be read ({error.strerror}): let this process's user read it") from None
    if len(content) > _BYTES_MOST:
        raise _UnusableError("which is larger than 1 MiB: name the file that holds the value")
    try:
        text = content.decode("utf-8-sig").rstrip("\r\n")  # editors of Windows begin a file with a mark
    except UnicodeDecodeError:
        raise _UnusableError("which is not UTF-8 text: write the value as text") from None
    if "\0" in text:
        raise _UnusableError("which holds a zero byte: write the value as text")
    if not text:
        raise _UnusableError("which is empty: write the value into it")
    return text
