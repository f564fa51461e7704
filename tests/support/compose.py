"""deploy/compose.yaml as Docker Compose would read it: merged, with the variables of an env file in place."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.local.compose_secrets import FOLDER, prepare, read_env
from tests.support.sandbox import ROOT

FILE = ROOT / "deploy/compose.yaml"
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:-|:\?)([^}]*))?\}")


class UnsetError(Exception):
    """A variable that must be set is not."""


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """The text with ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` replaced, as Compose does."""

    def value(found: re.Match[str]) -> str:
        name, operator, rest = found.groups()
        if given := variables.get(name):
            return given
        if operator == ":-":
            return str(rest)
        raise UnsetError(f"{name}: {rest}")

    return _VARIABLE.sub(value, text).replace("$$", "$")


def composed(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file as Compose has it with these variables."""
    return dict(yaml.safe_load(interpolated(FILE.read_text(), variables)))


class Prepared:
    """What ``compose_secrets`` wrote into a folder, and the file with its variables."""

    def __init__(self, folder: Path, *, sandbox: bool = True) -> None:
        self.folder = folder
        self.left = prepare(folder, sandbox=sandbox)
        self.variables = read_env(folder / ".env")

        self._file = composed(self.variables) if not self.left else {}

    def file(self) -> dict[str, Any]:
        """The whole file; empty while something is left to do."""
        return self._file

    def environment(self, service: str) -> dict[str, str]:
        """What the service's process would have. Its secrets are the files of this folder, at their own path."""
        given: dict[str, str] = self.file()["services"][service]["environment"]
        secrets = str(self.folder / FOLDER)
        return {name: str(value).replace("/run/secrets", secrets) for name, value in given.items()}
