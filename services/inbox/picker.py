"""The template picker: which templates are shown and why one may not be sent, its fields, and its preview. Pure.

Rule 1: what may not be sent stays visible, with its reason. Only what Meta no longer lists is not shown.
Rule 2: what a template asks for, and whether a value is sound, is the question of ``libs.common.template_parameters``.
Rule 3: a preview shows every place of the template, filled or not. Nothing that a person typed is dropped from it.

Source: Meta, "Message Templates": the shapes of components and their examples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from libs.common.directory.template_parts import Parts, parameters_of, parts_of
from libs.common.template_parameters import PLACE, Asked, FaultCode, Place, asked_by, faults, fill

WhyNot = Literal["status", "marketing_consent_off", "whatsapp_consent_off", "parts"]

_PARTS = frozenset({"HEADER", "BODY", "FOOTER", "BUTTONS"})
SHOWN_STATUSES = frozenset({"APPROVED", "PENDING", "IN_APPEAL", "PAUSED", "REJECTED", "DISABLED", "FLAGGED"})
MOST_OPTIONS = 60
"""Of a list. What is beyond is found by search."""
FIRST_WORDS = 60


@dataclass(frozen=True, slots=True)
class PickTemplate:
    """A template as Meta has it. ``components`` are Meta's own: HEADER, BODY, FOOTER, BUTTONS."""

    name: str
    language: str
    category: str
    status: str
    parameter_format: str
    components: list[Mapping[str, Any]]

    @property
    def key(self) -> str:
        """What a form posts for it."""
        return f"{self.language}/{self.name}"

    @property
    def asked(self) -> Asked:
        """What it asks for when it is sent."""
        parts = self.parts
        return asked_by(self.parameter_format, parts.body, parts.header, parts.buttons)

    @property
    def parts(self) -> Parts:
        return parts_of(self.components)

    @property
    def title(self) -> str:
        """``decision_needed`` as people read it."""
        words = self.name.replace("_", " ").strip()
        return words[:1].upper() + words[1:]


@dataclass(frozen=True, slots=True)
class Field:
    """A value that a template needs. ``button``: the text of the button whose address ends in the value."""

    place: Place
    example: str
    value: str = ""
    fault: FaultCode | None = None
    button: str | None = None

    @property
    def key(self) -> str:
        """Its name in the form: ``parameters.customer_name``, ``header``, ``buttons.0``."""
        return self.place.field

    @property
    def label(self) -> str | None:
        """``vehicle_model`` as people read it, None for a place that has a number only."""
        name = self.place.name
        return None if name.isdigit() else name.replace("_", " ").strip().capitalize()


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a preview: text of the template, or the place of a field with its value."""

    text: str
    field: str | None = None

    @property
    def is_gap(self) -> bool:
        return self.field is not None and not self.text.strip()


@dataclass(frozen=True, slots=True)
class Preview:
    """The template as the customer sees it."""

    header: Sequence[Piece]
    format: str
    """Of the header: ``TEXT``, ``IMAGE``, ``VIDEO``, ``DOCUMENT``, ``LOCATION``; empty without one."""
    body: Sequence[Piece]
    footer: str
    buttons: Sequence[str]


@dataclass(frozen=True, slots=True)
class Option:
    """A line of the list. ``first_words`` may hold places without a value, as ``…``."""

    template: PickTemplate
    first_words: str
    why_not: WhyNot | None
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Picker:
    """The list as searched, and the chosen template with its fields.

    ``total`` and ``languages`` are of all templates that are shown, ``hidden`` counts found ones beyond the list.
    ``approved`` and ``waiting`` count those that Meta has approved and those in review, and say why a list is empty.
    """

    options: Sequence[Option]
    hidden: int
    total: int
    approved: int
    waiting: int
    languages: Sequence[str]
    language: str
    search: str
    chosen: PickTemplate | None = None
    chosen_why_not: WhyNot | None = None
    fields: Sequence[Field] = ()
    preview: Preview | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the chosen template can be sent as it is filled in."""
        return self.chosen is not None and self.chosen_why_not is None and not any(f.fault for f in self.fields)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person has searched, chosen and filled in. ``template`` is a ``PickTemplate.key``."""

    search: str = ""
    language: str = ""
    template: str | None = None
    values: Mapping[str, str] | None = None
    is_submitted: bool = False
    """Whether empty fields are faults already: somebody pressed Send."""


def picker_of(
    templates: Sequence[PickTemplate],
    choice: Choice,
    known: Mapping[str, str],
    *,
    consent: bool = True,
    marketing: bool = False,
) -> Picker:
    """The picker for a customer.

    ``known`` are values by the usual names of fields, such as ``customer_name``. ``consent`` is the customer's for
    WhatsApp, ``marketing`` that for marketing.
    """
    shown = [one for one in templates if one.status in SHOWN_STATUSES]
    languages = sorted({one.language for one in shown})
    language = _language(choice.language, languages, shown)
    chosen = next((one for one in shown if one.key == choice.template), None)
    found = [one for one in shown if _is_found(one, choice.search) and (not language or one.language == language)]
    found.sort(key=lambda one: (_why_not(one, consent, marketing) is not None, one.title))
    fields = [] if chosen is None else _filled(chosen, choice, known)
    return Picker(
        options=[
            Option(one, _first_words(one, known), _why_not(one, consent, marketing), one == chosen)
            for one in found[:MOST_OPTIONS]
        ],
        hidden=max(0, len(found) - MOST_OPTIONS),
        total=len(shown),
        approved=sum(one.status == "APPROVED" for one in shown),
        waiting=sum(one.status in ("PENDING", "IN_APPEAL") for one in shown),
        languages=languages,
        language=language,
        search=choice.search,
        chosen=chosen,
        chosen_why_not=None if chosen is None else _why_not(chosen, consent, marketing),
        fields=fields,
        preview=None if chosen is None else preview_of(chosen, fields),
    )


def fields_of(template: PickTemplate) -> list[Field]:
    """The values that a person fills in, in the order in which they are read. What is optional is left out."""
    examples, buttons = _examples(template), template.parts.buttons or []
    return [
        Field(
            place,
            examples.get(place.field, ""),
            button=str(buttons[int(place.name)].get("text", "")) if place.part == "button" else None,
        )
        for place in template.asked.places
        if place.required
    ]


def preview_of(template: PickTemplate, fields: Sequence[Field]) -> Preview:
    """The template with the values of ``fields``."""
    values, parts = {one.key: one.value for one in fields}, template.parts
    header = parts.header or {}
    return Preview(
        header=_pieces(str(header.get("text") or ""), lambda _name: "header", values),
        format=str(header.get("format") or ("TEXT" if header else "")).upper(),
        body=_pieces(parts.body, "parameters.{}".format, values),
        footer=parts.footer or "",
        buttons=[str(one.get("text", "")) for one in parts.buttons or ()],
    )


def content_of(template: PickTemplate, fields: Sequence[Field]) -> dict[str, Any]:
    """The ``content`` of an intent that sends the template with these values."""
    filled = fill(template.asked, {one.key: one.value for one in fields})
    content: dict[str, Any] = {"kind": "template", "name": template.name, "language": template.language}
    content |= {name: value for name, value in filled._asdict().items() if value is not None}
    return content


def _examples(template: PickTemplate) -> dict[str, str]:
    """Examples by the key of their field."""
    found: dict[str, str] = {}
    for one in parameters_of(template.components, template.parameter_format):
        if one.example is None:
            continue
        match one.place:
            case "header":
                found["header"] = one.example
            case "body":
                found[f"parameters.{one.name or one.position}"] = one.example
            case "button":
                found[f"buttons.{one.button}"] = one.example
    return found


def _filled(template: PickTemplate, choice: Choice, known: Mapping[str, str]) -> list[Field]:
    """The fields with their values and faults. An empty field is no fault before somebody presses Send."""
    filled = []
    for one in fields_of(template):
        given = None if choice.values is None else choice.values.get(one.key)
        is_text = one.place.kind == "text"
        filled.append(
            replace(one, value=given if given is not None else known.get(one.place.name, "") if is_text else "")
        )
    sent = fill(template.asked, {one.key: one.value for one in filled})
    wrong = {fault.field: fault.code for fault in faults(template.asked, *sent)}
    return [
        replace(one, fault=wrong.get(one.key)) if choice.is_submitted or one.value.strip() else one for one in filled
    ]


def _pieces(text: str, key_of: Callable[[str], str], values: Mapping[str, str]) -> list[Piece]:
    pieces: list[Piece] = []
    end = 0
    for found in PLACE.finditer(text):
        pieces.append(Piece(text[end : found.start()]))
        key = key_of(found[1])
        pieces.append(Piece(values.get(key, ""), key))
        end = found.end()
    pieces.append(Piece(text[end:]))
    return [one for one in pieces if one.text or one.field]


def _first_words(template: PickTemplate, known: Mapping[str, str]) -> str:
    words = " ".join(PLACE.sub(lambda found: known.get(found[1]) or "…", template.parts.body).split())
    return words if len(words) <= FIRST_WORDS else words[:FIRST_WORDS].rstrip() + "…"


def _why_not(template: PickTemplate, consent: bool, marketing: bool) -> WhyNot | None:  # noqa: FBT001 -- both consents
    if template.status not in ("APPROVED", "FLAGGED"):
        return "status"
    if not consent:
        return "whatsapp_consent_off"
    if template.category == "MARKETING" and not marketing:
        return "marketing_consent_off"
    kinds = {str(one.get("type", "")).upper() for one in template.components}
    asked = template.asked
    is_known = not kinds - _PARTS and asked.header is not None and asked.buttons is not None and not asked.open_buttons
    return None if is_known else "parts"


def _is_found(template: PickTemplate, search: str) -> bool:
    words = search.casefold().split()
    text = f"{template.title} {template.name} {template.parts.body}".casefold()
    return all(word in text for word in words)


def _language(asked: str, languages: Sequence[str], templates: Sequence[PickTemplate]) -> str:
    """The language whose templates are listed: the asked one, else that with most templates."""
    if asked in languages:
        return asked
    counts = {one: sum(t.language == one and t.status == "APPROVED" for t in templates) for one in languages}
    return max(languages, key=lambda one: counts[one], default="")
