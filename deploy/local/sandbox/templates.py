"""The templates and business numbers that Meta knows, and Meta's check of template messages. No I/O."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict

from deploy.local.sandbox.meta_errors import refusal
from deploy.local.sandbox.schemas import Answer, Json

_VARIABLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_UGLY = re.compile(r"[\n\t]| {5,}")
_NOT_SENDABLE = {"PAUSED": 132015, "DISABLED": 132016}


class Number(BaseModel):
    """A business phone number; ``webhook_url`` and ``token`` override the sandbox's own for this number."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    phone_number_id: str
    waba_id: str = "200000000000000"
    display_number: str = "+447700900123"
    webhook_url: str | None = None
    token: str | None = None

    @property
    def digits(self) -> str:
        return re.sub(r"\D", "", self.display_number)


class Template(BaseModel):
    """A template as registered; ``waba_id`` None stands for every account."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    language: str
    body: str = ""
    category: str = "UTILITY"
    parameter_format: str = "POSITIONAL"
    status: str = "APPROVED"
    header: str | dict[str, Any] | None = None
    waba_id: str | None = None

    @property
    def header_format(self) -> str | None:
        """TEXT, IMAGE, VIDEO, DOCUMENT, LOCATION, or None without a header."""
        if isinstance(self.header, dict):
            return str(self.header.get("format", self.header.get("type", "TEXT"))).upper()
        return "TEXT" if self.header else None

    def variables(self, component: str) -> list[str]:
        """The variables of the body or of a text header, each once, in order."""
        text = self.body
        if component == "header":
            text = str(self.header.get("text", "")) if isinstance(self.header, dict) else self.header or ""
        return list(dict.fromkeys(_VARIABLE.findall(text)))


class Templates:
    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str, str | None], Template] = {}

    def put(self, template: Template) -> None:
        self._by_key[template.name, template.language, template.waba_id] = template

    def all(self) -> list[Template]:
        return list(self._by_key.values())

    def judge(self, waba_id: str, message: Json) -> Template | Answer:  # noqa: PLR0911  one return per rule
        """The template a message's ``template`` object stands for, or Meta's refusal."""
        name, language = message.get("name"), message.get("language")
        if not isinstance(name, str) or not name:
            return refusal(131008, "The parameter template['name'] is required.")
        if not isinstance(language, dict) or not isinstance(language.get("code"), str):
            return refusal(131008, "The parameter template['language']['code'] is required.")
        code = language["code"]
        found = self._by_key.get((name, code, waba_id)) or self._by_key.get((name, code, None))
        if found is None:
            return refusal(132001, f"template name ({name}) does not exist in {code}")
        if found.status.upper() != "APPROVED":
            return refusal(_NOT_SENDABLE.get(found.status.upper(), 132001))
        components = message.get("components", [])
        if not isinstance(components, list) or not all(isinstance(c, dict) for c in components):
            return refusal(100, "Param template['components'] must be an array of objects.")
        for part in ("header", "body"):
            given = [p for c in components if str(c.get("type")).lower() == part for p in c.get("parameters") or []]
            wrong = _misfit(found, part, given)
            if wrong is not None:
                return wrong
        return found


def _misfit(template: Template, part: str, given: list[Json]) -> Answer | None:  # noqa: PLR0911  one return per rule
    """Why these parameters do not fit this part of the template, or None."""
    if part == "header" and template.header_format not in (None, "TEXT"):
        wanted = str(template.header_format).lower()
        if [p.get("type") for p in given] != [wanted]:
            return refusal(132012, f"header: Format mismatch, expected {wanted.upper()}, received UNKNOWN")
        return None
    variables = template.variables(part)
    if len(given) != len(variables):
        return refusal(
            132000,
            f"{part}: number of localizable_params ({len(given)})"
            f" does not match the expected number of params ({len(variables)})",
        )
    for parameter in given:
        if parameter.get("type") not in ("text", "currency", "date_time"):
            return refusal(132012, f"{part}: parameter type must be text")
    named = template.parameter_format.upper() == "NAMED"
    names = [p.get("parameter_name") for p in given]
    if (named and sorted(map(str, names)) != sorted(variables)) or (not named and any(names)):
        return refusal(
            132012, "Parameter name is missing or empty" if named else "Named parameters sent to a positional template"
        )
    for parameter in given:
        text = parameter.get("text")
        if parameter["type"] == "text" and (not isinstance(text, str) or not text):
            return refusal(131008, "Parameter of type text is missing text value")
        if isinstance(text, str) and _UGLY.search(text):
            return refusal(132018)
    return None
