"""A template as a form shows and posts it, and what its states say to people. Pure.

Rule 1: what a form cannot show (a header with a file, a code to copy) is kept as it is.
Rule 2: a form that is refused comes back with everything that was typed.
Rule 3: an example belongs to a placeholder by its name; one whose placeholder is gone is dropped when it is written.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from libs.common.directory.template_parts import parameters_of, parts_of
from libs.common.pages.entries import N_
from libs.common.sanitize import sanitize
from services.inbox.template_limits import FORMATS, Check, Content, Fault, Part, by_number, variables

QUICK_REPLIES = 3
LANGUAGES = (
    *("en_GB", "en_US", "en", "de", "fr", "es", "it", "nl", "pl", "pt_PT", "pt_BR", "ro", "tr", "uk", "ru", "cs"),
    *("sk", "hu", "hr", "sr", "bg", "el", "sv", "da", "nb", "fi", "et", "lv", "lt", "ar", "he", "hi", "ur", "bn"),
)
"""The languages that the form offers, of those that Meta takes."""

CHECKS: Mapping[Check, str] = {
    "placement": N_("Placeholder not first or last"),
    "lengths": N_("Lengths of header, text and footer"),
    "examples": N_("An example for every placeholder"),
    "words": N_("Enough words around placeholders"),
    "buttons": N_("Buttons in order"),
    "name": N_("Name free in this language"),
}

_STATES: Mapping[str, tuple[str, str, str]] = {
    "APPROVED": (N_("Approved"), "open", "check"),
    "PENDING": (N_("In review"), "", "hour"),
    "IN_APPEAL": (N_("In review"), "", "hour"),
    "REJECTED": (N_("Rejected"), "expired", "alert"),
    "PAUSED": (N_("Paused"), "closing", "pause"),
    "DISABLED": (N_("Disabled"), "expired", "close"),
    "DRAFT": (N_("Draft"), "", "pencil"),
    "DELETED": (N_("Deleted"), "", "trash"),
}
_URGENCY = ("REJECTED", "PAUSED", "DISABLED", "PENDING", "IN_APPEAL", "DRAFT")
_WRONG_CATEGORY = N_(
    "The text does not fit its category: choose Marketing, or leave the offer out, and submit it again."
)
_ADVICE: Mapping[str, str] = {
    "INVALID_FORMAT": N_("Something in its form is not allowed, such as a placeholder at the edge. Mend it and submit it again."),  # noqa: E501 -- one sentence of the catalogue
    "TAG_CONTENT_MISMATCH": _WRONG_CATEGORY,
    "INCORRECT_CATEGORY": _WRONG_CATEGORY,
    "PROMOTIONAL": _WRONG_CATEGORY,
    "SCAM": N_("Meta takes it for fraud. Ask for no passwords, codes or card numbers, and submit it again."),
    "ABUSIVE_CONTENT": N_("Meta finds it abusive. Write it anew and submit it again."),
    "FIRST_PAUSE": N_("Customers blocked or reported it. It starts again by itself after three hours."),
    "SECOND_PAUSE": N_("Customers blocked or reported it again. It starts again by itself after six hours; after a third pause Meta disables it."),  # noqa: E501 -- one sentence of the catalogue
}  # fmt: skip
_OF_STATUS: Mapping[str, str] = {
    "REJECTED": N_("Change it and submit it again."),
    "PAUSED": N_("Customers blocked or reported it. It starts again by itself."),
    "DISABLED": N_("Meta disabled it. It cannot be sent again; write a new template under another name."),
    "DELETED": N_("Meta lists it no more. It stays here to be read."),
}
_EVENTS: Mapping[str, str] = {
    "drafted": N_("Draft written"),
    "submitted": N_("Submitted"),
    "edited": N_("Changed and submitted"),
    "refused": N_("Not taken by Meta"),
    "components": N_("Text changed at Meta"),
    "deleted": N_("Deleted"),
    "category": N_("Category"),
    "quality": N_("Quality"),
}
SOURCES: Mapping[str, str] = {"load": N_("Load file"), "send": N_("Meta, when it was sent")}
CATEGORIES: Mapping[str, str] = {
    "UTILITY": N_("Utility"),
    "MARKETING": N_("Marketing"),
    "AUTHENTICATION": N_("Authentication"),
}
_OF_A_BUTTON = re.compile(r"components\.\d+\.buttons\.(\d+)\.(\w+)")
_BUTTON_FIELDS = {
    ("link", "text"): "link_label",
    ("link", "url"): "link_url",
    ("link", "example"): "link_example",
    ("call", "text"): "call_label",
    ("call", "phone_number"): "call_number",
}
QUALITIES: Mapping[str, str] = {"GREEN": N_("High"), "YELLOW": N_("Medium"), "RED": N_("Low")}


class State(NamedTuple):
    """A status to people. ``word`` is a message of the catalogue, or Meta's own word where it is not known."""

    word: str
    style: str
    icon: str


def state_of(status: str) -> State:
    """How a status is shown."""
    return State(*_STATES.get(status, (status.replace("_", " ").capitalize(), "closing", "info")))


def advice_of(status: str, reason: str | None) -> str | None:
    """What people do about a status; a message of the catalogue."""
    if status not in _OF_STATUS:
        return None
    return _ADVICE.get(reason or "") or _OF_STATUS[status]


def event_word(event: str, word: str | None) -> str:
    """What a line of the history says; a message of the catalogue."""
    return state_of(word).word if event == "status" and word else _EVENTS.get(event, event)


def urgency_of(status: str) -> int:
    """Those that need somebody come first, what is gone comes last."""
    if status == "DELETED":
        return len(_URGENCY) + 1
    return _URGENCY.index(status) if status in _URGENCY else len(_URGENCY)


def title_of(name: str) -> str:
    """``decision_needed`` as people read it."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:] if words else name


@dataclass(frozen=True, slots=True)
class TemplateForm:
    """The fields of the form. ``kept``: header and buttons that it cannot show, in Meta's shape."""

    waba_id: str = ""
    name: str = ""
    language: str = "en_GB"
    category: str = "UTILITY"
    parameter_format: str = "NAMED"
    header: str = ""
    body: str = ""
    footer: str = ""
    quick: tuple[str, ...] = ("",) * QUICK_REPLIES
    link_label: str = ""
    link_url: str = ""
    link_example: str = ""
    call_label: str = ""
    call_number: str = ""
    examples: Mapping[str, str] = field(default_factory=dict)
    kept_header: Mapping[str, Any] | None = None
    kept_buttons: tuple[Mapping[str, Any], ...] = ()

    @property
    def places(self) -> list[tuple[str, str, str]]:
        """Part, name and example of every placeholder of header and text."""
        texts = (("header", self.header), ("body", self.body))
        return [
            (part, name, self.examples.get(f"{part}.{name}", "")) for part, text in texts for name in variables(text)
        ]

    @property
    def components(self) -> list[dict[str, Any]]:
        """The template in Meta's shape."""
        found: list[dict[str, Any]] = []
        if self.kept_header is not None:
            found.append(dict(self.kept_header))
        elif self.header.strip():
            found.append(
                {"type": "HEADER", "format": "TEXT", "text": self.header} | self._example("header", self.header)
            )
        found.append({"type": "BODY", "text": self.body} | self._example("body", self.body))
        if self.footer.strip():
            found.append({"type": "FOOTER", "text": self.footer})
        if buttons := [button for _field, button in self._buttons()]:
            found.append({"type": "BUTTONS", "buttons": buttons})
        return found

    def field_of(self, fault: Fault) -> str | None:
        """The field that a fault of header, text or one button is about; None where it is about all of its part."""
        if fault.check == "examples" and fault.part in ("header", "body") and "name" in fault.values:
            return f"{fault.part}.{fault.values['name']}"
        if (button := _OF_A_BUTTON.fullmatch(fault.field)) is None:
            return None
        fields = dict(enumerate(field for field, _button in self._buttons()))
        field = fields.get(int(button[1]), "kept")  # the fault may be of what somebody else wrote meanwhile
        return field if field.startswith("quick.") else _BUTTON_FIELDS.get((field, button[2]))

    @property
    def content(self) -> Content:
        return Content(self.name, self.language, self.category, self.parameter_format, self.components)

    def _example(self, part: Literal["header", "body"], text: str) -> dict[str, Any]:
        names = variables(text)
        if not names:
            return {}
        values = {name: self.examples.get(f"{part}.{name}", "").strip() for name in names}
        if self.parameter_format == "NAMED":
            listed = [{"param_name": name, "example": value} for name, value in values.items() if value]
            return {"example": {f"{part}_text_named_params": listed}} if listed else {}
        row = [values[name] for name in by_number(names)]
        return {"example": {f"{part}_text": [row] if part == "body" else row}} if any(row) else {}

    def _buttons(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each button behind the field that it stands in; behind ``kept`` where the form cannot show it."""
        for n, label in enumerate(self.quick):
            if label.strip():
                yield f"quick.{n}", {"type": "QUICK_REPLY", "text": label.strip()}
        if self.link_label.strip() or self.link_url.strip():
            example = {"example": [self.link_example.strip()]} if self.link_example.strip() else {}
            yield "link", {"type": "URL", "text": self.link_label.strip(), "url": self.link_url.strip()} | example
        if self.call_label.strip() or self.call_number.strip():
            number = self.call_number.strip()
            yield "call", {"type": "PHONE_NUMBER", "text": self.call_label.strip(), "phone_number": number}
        yield from (("kept", dict(button)) for button in self.kept_buttons)


def form_of(identity: TemplateForm, category: str, components: object) -> TemplateForm:
    """The form of a template. ``identity`` has its account, name, language and format of parameters."""
    parts = parts_of(components)
    listed = parameters_of(components, identity.parameter_format)
    examples = {f"{one.place}.{one.name or one.position}": one.example or "" for one in listed if one.place != "button"}
    is_text = parts.header is not None and str(parts.header.get("format") or "TEXT").upper() == "TEXT"
    quick: list[str] = []
    kept: list[Mapping[str, Any]] = []
    link: Mapping[str, Any] = {}
    call: Mapping[str, Any] = {}
    for button in parts.buttons or ():
        match str(button.get("type")).upper():
            case "QUICK_REPLY" if len(quick) < QUICK_REPLIES:
                quick.append(str(button.get("text") or ""))
            case "URL" if not link:
                link = button
            case "PHONE_NUMBER" if not call:
                call = button
            case _:
                kept.append(button)
    example = link.get("example")
    return replace(
        identity,
        category=category,
        header=str((parts.header or {}).get("text") or "") if is_text else "",
        body=parts.body,
        footer=parts.footer or "",
        quick=(*quick, *("",) * (QUICK_REPLIES - len(quick))),
        link_label=str(link.get("text") or ""),
        link_url=str(link.get("url") or ""),
        link_example=str(example[0]) if isinstance(example, list) and example else "",
        call_label=str(call.get("text") or ""),
        call_number=str(call.get("phone_number") or ""),
        examples=examples,
        kept_header=None if is_text else parts.header,
        kept_buttons=tuple(kept),
    )


def read_form(fields: Mapping[str, str], base: TemplateForm, *, is_new: bool) -> TemplateForm:
    """What was posted. Account, name, language and format are fixed once the template exists."""
    fields = sanitize(dict(fields))

    def given(name: str, before: str) -> str:
        return fields.get(name, before).replace("\r\n", "\n")

    read = replace(
        base,
        category=given("category", base.category),
        header=given("header", base.header),
        body=given("body", base.body),
        footer=given("footer", base.footer),
        quick=tuple(given(f"quick.{n}", label) for n, label in enumerate(base.quick)),
        link_label=given("link_label", base.link_label),
        link_url=given("link_url", base.link_url),
        link_example=given("link_example", base.link_example),
        call_label=given("call_label", base.call_label),
        call_number=given("call_number", base.call_number),
        examples={
            name.removeprefix("example."): value.replace("\r\n", "\n")
            for name, value in fields.items()
            if name.startswith("example.")
        },
    )
    if not is_new:
        return read
    form = given("parameter_format", base.parameter_format)
    return replace(
        read,
        waba_id=given("waba_id", base.waba_id),
        name=given("name", base.name).strip(),
        language=given("language", base.language),
        parameter_format=form if form in FORMATS else base.parameter_format,
    )


class Shown(NamedTuple):
    """A fault beside its field. ``field``: of which placeholder or button, such as ``body.name`` or ``link_url``."""

    part: Part
    field: str | None
    fault: Fault


def shown_faults(faults: Sequence[Fault], form: TemplateForm) -> list[Shown]:
    """The faults by the fields of the form."""
    return [Shown(fault.part, form.field_of(fault), fault) for fault in faults]


class Piece(NamedTuple):
    """A part of a preview. ``kind``: plain text, a placeholder with its example, or one without."""

    text: str
    kind: Literal["text", "filled", "gap"]


def preview(text: str, part: Literal["header", "body"], examples: Mapping[str, str]) -> list[Piece]:
    """A text with the examples in the place of its placeholders."""
    pieces: list[Piece] = []
    rest = text
    while "{{" in rest:
        before, _, behind = rest.partition("{{")
        name, closed, after = behind.partition("}}")
        if not closed:
            break
        if before:
            pieces.append(Piece(before, "text"))
        value = examples.get(f"{part}.{name.strip()}", "").strip()
        pieces.append(Piece(value, "filled") if value else Piece(f"{{{{{name}}}}}", "gap"))
        rest = after
    return [*pieces, Piece(rest, "text")] if rest else pieces
