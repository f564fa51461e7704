"""The templates and business numbers that Meta knows, and Meta's check of template messages. No I/O."""

import re
from itertools import count
from typing import Any

from pydantic import BaseModel, ConfigDict

from deploy.local.sandbox.button_rules import button_misfit
from deploy.local.sandbox.meta_errors import refusal
from deploy.local.sandbox.schemas import Answer, Json
from deploy.local.sandbox.template_rules import Verdict

_VARIABLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_UGLY = re.compile(r"[\n\t]| {5,}")
RESERVED_SECONDS = 30 * 86400
_NOT_SENDABLE = {"PAUSED": 132015, "DISABLED": 132016}


class Number(BaseModel):
    """A business phone number; ``webhook_url`` and ``token`` override the sandbox's own for this number."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    phone_number_id: str
    waba_id: str = "200000000000000"
    display_number: str = "+447700900123"
    webhook_url: str | None = None
    token: str | None = None
    verified_name: str = "Sandbox"
    shown_number: str | None = None
    """The number as the Graph API shows it; None: as it is written into webhooks."""
    quality: str = "GREEN"
    status: str = "CONNECTED"
    name_status: str = "APPROVED"

    @property
    def digits(self) -> str:
        return re.sub(r"\D", "", self.display_number)


class Template(BaseModel):
    """A template as registered or created; ``waba_id`` None stands for every account.

    ``components``: as it was created; None: put together of header, body, footer and buttons.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    language: str
    body: str = ""
    category: str = "UTILITY"
    parameter_format: str = "POSITIONAL"
    status: str = "APPROVED"
    header: str | dict[str, Any] | None = None
    footer: str | None = None
    buttons: list[dict[str, Any]] | None = None
    waba_id: str | None = None
    id: str | None = None
    components: list[dict[str, Any]] | None = None
    rejected_reason: str = "NONE"
    quality: str = "UNKNOWN"
    edits: tuple[float, ...] = ()
    """When it was edited while it was approved, unix seconds."""

    @property
    def buttons_shown(self) -> list[Json]:
        """Its buttons, in their order."""
        return [one for part in self.parts if part.get("type") == "BUTTONS" for one in part.get("buttons") or ()]

    @property
    def parts(self) -> list[Json]:
        """All components, as a list shows them."""
        if self.components is not None:
            return self.components
        parts: list[Json] = []
        if self.header:
            fields = self.header if isinstance(self.header, dict) else {"text": self.header}
            parts.append(fields | {"type": "HEADER", "format": self.header_format})
        parts.append({"type": "BODY", "text": self.body})
        if self.footer:
            parts.append({"type": "FOOTER", "text": self.footer})
        if self.buttons:
            parts.append({"type": "BUTTONS", "buttons": self.buttons})
        return parts

    def with_parts(self, components: list[Json], **changes: Any) -> "Template":
        """The same template with other components."""
        by_type = {str(one.get("type")).upper(): one for one in components}
        return self.model_copy(
            update={
                "components": components,
                "body": by_type["BODY"]["text"],
                "header": by_type.get("HEADER"),
                "footer": by_type.get("FOOTER", {}).get("text"),
                "buttons": by_type.get("BUTTONS", {}).get("buttons"),
                **changes,
            }
        )

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
    """The templates of every account, and what their reviewer has decided for a later moment."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str, str | None], Template] = {}
        self._ids = count(520_000_000_000_001)
        self._decided: dict[str, tuple[float, Verdict]] = {}
        self._gone: dict[tuple[str, str], float] = {}

    def put(self, template: Template) -> Template:
        """Store it, under the id it has, or had before, or gets now."""
        key = template.name, template.language, template.waba_id
        known = self._by_key.get(key)
        number = template.id or (known.id if known is not None else None) or self._new_id()
        stored = self._by_key[key] = template.model_copy(update={"id": number})
        return stored

    def _new_id(self) -> str:
        taken = {one.id for one in self._by_key.values()}
        return next(number for number in map(str, self._ids) if number not in taken)

    def of_account(self, waba_id: str, now: float) -> list[Template]:
        """What the account has, in the order of creation. What was decided up to now has happened."""
        self.settle(now)
        return [one for one in self._by_key.values() if one.waba_id in (waba_id, None)]

    def with_id(self, number: str, now: float) -> Template | None:
        self.settle(now)
        return next((one for one in self._by_key.values() if one.id == number), None)

    def decide_later(self, template: Template, at: float, verdict: Verdict) -> None:
        """The reviewer's verdict, which counts from ``at`` on."""
        self._decided[str(template.id)] = (at, verdict)

    def settle(self, now: float) -> None:
        for number in [number for number, (at, _) in self._decided.items() if at <= now]:
            _, verdict = self._decided.pop(number)
            for key, one in self._by_key.items():
                if one.id == number:
                    self._by_key[key] = one.model_copy(
                        update={"status": verdict.status, "rejected_reason": verdict.reason}
                    )

    def remove(self, template: Template, now: float) -> None:
        """Delete it; the name of one that was approved is taken for 30 days."""
        self._by_key.pop((template.name, template.language, template.waba_id), None)
        self._decided.pop(str(template.id), None)
        if template.status != "REJECTED":
            self._gone[template.name, template.language] = now

    def is_reserved(self, name: str, language: str, now: float) -> bool:
        return now - self._gone.get((name, language), -RESERVED_SECONDS) < RESERVED_SECONDS

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
        return button_misfit(found.buttons_shown, components) or found


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
