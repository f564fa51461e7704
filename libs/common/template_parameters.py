"""What a template asks for when it is sent, and whether a send gives it, by Meta's rules. Pure.

Rule 1: body, header and buttons are judged by one function, ``faults``, in the router and in the inbox alike.
Rule 2: a place of the body is a text. A header asks for the one text of its variable, for the file of its format, or
        for a place on the map. A button asks for the end of its address, or for the code that it copies. A payload of a
        quick reply and the token of a flow are optional. Anything else must not be given.
Rule 3: parts of a kind that is not known here are not judged: Meta does that.
Rule 4: a body with its values has at most ``MAX_BODY`` characters where a header or buttons are sent beside it. A body
        that is sent alone may be far longer, and is not judged.

Source: Meta, message templates. Places are ``{{1}}`` … (POSITIONAL) or ``{{customer_name}}`` (NAMED). Another number of
parameters is refused (132000), so are other names and types (132012), a button without its value (131008), a text
with a newline, a tab or more than four spaces in a row (132018), and a body that its values make too long (132005). Of
a text in a body Meta says: 1,024 characters if other components are included, 32,768 if the body is the only one.

A send's ``header`` is one parameter in Meta's shape, such as ``{"type": "image", "image": {"link": …}}``. Each of its
``buttons`` is ``{"sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": …}]}``; where the index is
left out, it is the place in the list.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from libs.common.urls import is_url

PlaceKind = Literal["text", "image", "video", "document", "location", "url", "copy_code", "quick_reply", "flow"]
FaultCode = Literal["missing", "empty", "layout", "too_long", "format", "unexpected"]
"""``layout``: a newline, a tab or five spaces in a row. ``format``: another shape or type than the template's."""

MAX_CODE = 20  # Meta: the code of a copy code button
MAX_HEADER = 60  # Meta: a text in a header
MAX_BODY = 1024  # Meta: a body with its values, beside other components

PLACE = re.compile(r"\{\{\s*([A-Za-z0-9_]{1,512})\s*\}\}")
"""A place in a template's text. No number is too long to be read as one."""
_LAYOUT = re.compile(r"[\n\r\t]| {5}")
_MEDIA: dict[str, PlaceKind] = {"IMAGE": "image", "VIDEO": "video", "DOCUMENT": "document"}
_SPOKEN = ("text", "currency", "date_time")
"""What Meta takes in the place of a text."""


class Place(NamedTuple):
    """One value that a send gives. ``name``: of the variable; of a button its index."""

    part: Literal["body", "header", "button"]
    name: str
    kind: PlaceKind
    required: bool = True

    @property
    def field(self) -> str:
        """The field of a send that holds the value: ``parameters.customer_name``, ``header``, ``buttons.0``."""
        match self.part:
            case "body":
                return f"parameters.{self.name}"
            case "header":
                return "header"
            case "button":
                return f"buttons.{self.name}"


class Fault(NamedTuple):
    """What is wrong with a field of a send."""

    field: str
    code: FaultCode


class Asked(NamedTuple):
    """What a template asks for. Its texts are named; ``None`` stands for a part that is not judged."""

    named: bool
    body: tuple[Place, ...]
    header: tuple[Place, ...] | None
    buttons: tuple[Place, ...] | None
    open_buttons: frozenset[int] = frozenset()
    """The indexes of buttons of kinds that are not known here."""
    text: str = ""
    """The body, with its places."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Everything that a form asks for, header first, as the message shows it."""
        return (*(self.header or ()), *self.body, *(self.buttons or ()))


def asked_by(parameter_format: str, body: str, header: object, buttons: object) -> Asked:
    """What a template asks for.

    ``header`` is Meta's component of type HEADER, ``buttons`` is the list of its BUTTONS; None where there is none.
    """
    found, unknown = _buttons(buttons)
    return Asked(
        named=parameter_format == "NAMED",
        body=tuple(Place("body", name, "text") for name in names_in(body)),
        header=_header(header),
        buttons=found,
        open_buttons=unknown,
        text=body,
    )


@lru_cache(maxsize=4096)
def names_in(text: str) -> tuple[str, ...]:
    """The names (or numbers) of the places in a text, each once, in their order."""
    return tuple(dict.fromkeys(PLACE.findall(text)))


def faults(
    asked: Asked,
    parameters: Mapping[str, str] | Sequence[str],
    header: Mapping[str, Any] | None = None,
    buttons: Sequence[Mapping[str, Any]] | None = None,
) -> list[Fault]:
    """Everything that is wrong with a send of this template; nothing where Meta would take its parameters."""
    found = [*_body_faults(asked, parameters)]
    if not found and parameters and (header is not None or buttons):
        found += _length_faults(asked.text, _by_name(parameters))
    if asked.header is not None:
        found += _header_faults(asked, header)
    if asked.buttons is not None:
        found += _button_faults(asked, buttons or ())
    return found


class Filled(NamedTuple):
    """The fields of a send (``TemplateFields``) that a form makes."""

    parameters: dict[str, str] | list[str]
    header: dict[str, Any] | None
    buttons: list[dict[str, Any]] | None


def fill(asked: Asked, values: Mapping[str, str]) -> Filled:
    """The fields of a send, from what a form holds under ``Place.field``.

    A file is a link, or Meta's id of an upload. A place on the map is ``latitude, longitude``. What was left empty
    stays so, for ``faults`` to say; an optional button that was left empty is left out.
    """
    texts = {place.name: values.get(place.field, "") for place in asked.body}
    parameters = texts if asked.named else [texts[name] for name in sorted(texts, key=_by_number)]
    header = None
    if asked.header:
        header = _filled_header(asked.header[0], values.get("header", "").strip(), named=asked.named)
    buttons = []
    for place in asked.buttons or ():
        value = values.get(place.field, "").strip()
        if place.kind in _SUB_TYPE and (value or place.required):
            sub_type, name = _SUB_TYPE[place.kind]
            buttons.append({"sub_type": sub_type, "index": place.name, "parameters": [{"type": name, name: value}]})
    return Filled(parameters, header, buttons or None)


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdigit() else 0, name)


def _filled_header(place: Place, value: str, *, named: bool) -> dict[str, Any]:
    match place.kind:
        case "text":
            return {"type": "text", "text": value} | ({"parameter_name": place.name} if named else {})
        case "location":
            latitude, _, longitude = value.partition(",")
            found = {"latitude": latitude.strip(), "longitude": longitude.strip()}
            return {"type": "location", "location": {name: one for name, one in found.items() if one}}
        case kind:
            media = {"link": value} if ":" in value else {"id": value} if value else {}
            return {"type": kind, kind: media}


def _header(header: object) -> tuple[Place, ...] | None:
    if header is None:
        return ()
    if isinstance(header, str):
        header = {"format": "TEXT", "text": header}
    if not isinstance(header, Mapping):
        return None
    form = str(header.get("format") or "TEXT").upper()
    if form == "TEXT":
        return tuple(Place("header", name, "text") for name in names_in(str(header.get("text") or "")))
    if form == "LOCATION":
        return (Place("header", "location", "location"),)
    return (Place("header", form.lower(), _MEDIA[form]),) if form in _MEDIA else None


def _buttons(buttons: object) -> tuple[tuple[Place, ...] | None, frozenset[int]]:
    if buttons is None:
        return (), frozenset()
    if not isinstance(buttons, Sequence) or not all(isinstance(button, Mapping) for button in buttons):
        return None, frozenset()
    found: list[Place] = []
    unknown: set[int] = set()
    for index, button in enumerate(buttons):
        match str(button.get("type")).upper():
            case "URL" if not names_in(str(button.get("url") or "")):
                continue
            case "URL" | "OTP":  # the code of an authentication template travels as the end of an address
                found.append(Place("button", str(index), "url"))
            case "COPY_CODE":
                found.append(Place("button", str(index), "copy_code"))
            case "QUICK_REPLY":
                found.append(Place("button", str(index), "quick_reply", required=False))
            case "FLOW":
                found.append(Place("button", str(index), "flow", required=False))
            case "PHONE_NUMBER":
                continue
            case _:
                unknown.add(index)
    return tuple(found), frozenset(unknown)


def _body_faults(asked: Asked, parameters: Mapping[str, str] | Sequence[str]) -> Iterator[Fault]:
    if not parameters and not asked.body:
        return
    if parameters and isinstance(parameters, Mapping) != asked.named:
        yield Fault("parameters", "format")
        return
    given = _by_name(parameters)
    wanted = {place.name: place for place in asked.body}
    for name, place in wanted.items():
        if name not in given:
            yield Fault(place.field, "missing")
        elif (code := _text_fault(given[name])) is not None:
            yield Fault(place.field, code)
    for name in given:
        if name not in wanted:
            yield Fault("parameters" if asked.named else f"parameters.{name}", "unexpected")


def _by_name(parameters: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    return parameters if isinstance(parameters, Mapping) else {str(n): v for n, v in enumerate(parameters, 1)}


def _length_faults(text: str, given: Mapping[str, str]) -> Iterator[Fault]:
    """The longest value is named: it is the one to shorten."""
    if len(PLACE.sub(lambda found: given[found[1]], text)) > MAX_BODY:
        yield Fault(f"parameters.{max(given, key=lambda name: len(given[name]))}", "too_long")


def _header_faults(asked: Asked, header: Mapping[str, Any] | None) -> Iterator[Fault]:
    if not asked.header:
        if header is not None:
            yield Fault("header", "unexpected")
        return
    place = asked.header[0]
    code: FaultCode | None
    if header is None:
        code = "missing"
    elif len(asked.header) > 1:
        code = "format"  # Meta allows one variable in a header
    elif place.kind == "text":
        code = _spoken_fault(header, place.name if asked.named else None)
    else:
        code = _location_fault(header) if place.kind == "location" else _media_fault(header, place.kind)
    if code is not None:
        yield Fault("header", code)


def _button_faults(asked: Asked, buttons: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    wanted = {place.name: place for place in asked.buttons or ()}
    given: set[str] = set()
    for position, button in enumerate(buttons):
        index = str(button.get("index", position))
        if index in given or (index not in wanted and not _is_open(asked, index)):
            yield Fault(f"buttons.{position}", "unexpected")
        elif index in wanted and (code := _value_fault(wanted[index].kind, button)) is not None:
            yield Fault(wanted[index].field, code)
        given.add(index)
    for name, place in wanted.items():
        if place.required and name not in given:
            yield Fault(place.field, "missing")


def _is_open(asked: Asked, index: str) -> bool:
    return index in {str(one) for one in asked.open_buttons}


_SUB_TYPE: dict[PlaceKind, tuple[str, str]] = {
    "url": ("url", "text"),
    "copy_code": ("copy_code", "coupon_code"),
    "quick_reply": ("quick_reply", "payload"),
}
"""A button's ``sub_type``, and the type of its one parameter, whose value stands under the same name."""


def _value_fault(kind: PlaceKind, button: Mapping[str, Any]) -> FaultCode | None:
    if kind == "flow":
        return None if _lower(button.get("sub_type")) == "flow" else "format"
    sub_type, name = _SUB_TYPE[kind]
    match _lower(button.get("sub_type")) == sub_type, button.get("parameters"):
        case True, []:
            return "missing"
        case True, [{"type": str(given), **more}] if given.lower() == name:
            value = more.get(name)
        case _:
            return "format"
    if value is not None and not isinstance(value, str):
        return "format"
    if kind == "quick_reply":
        return None if value else "empty"
    return _text_fault(value or "", MAX_CODE if kind == "copy_code" else None)


def _spoken_fault(parameter: Mapping[str, Any], name: str | None) -> FaultCode | None:
    kind = _lower(parameter.get("type"))
    if kind not in _SPOKEN or parameter.get("parameter_name") != name:
        return "format"
    if kind != "text":
        return None if isinstance(parameter.get(kind), Mapping) else "format"
    text = parameter.get("text")
    if text is not None and not isinstance(text, str):
        return "format"
    return _text_fault(text or "", MAX_HEADER)


def _media_fault(parameter: Mapping[str, Any], kind: PlaceKind) -> FaultCode | None:
    media = parameter.get(kind)
    if _lower(parameter.get("type")) != kind or not isinstance(media, Mapping):
        return "format"
    media_id, link = media.get("id"), media.get("link")
    if media_id is None and link is None:
        return "missing"
    if media_id is not None and link is not None:
        return "format"
    if media_id is not None:
        return None if isinstance(media_id, str) and media_id.strip() else "empty"
    return None if isinstance(link, str) and is_url(link) else "format"


def _location_fault(parameter: Mapping[str, Any]) -> FaultCode | None:
    place = parameter.get("location")
    if _lower(parameter.get("type")) != "location" or not isinstance(place, Mapping):
        return "format"
    given = [place.get("latitude"), place.get("longitude")]
    if None in given:
        return "missing"
    try:
        latitude, longitude = (float(one) for one in given if isinstance(one, int | float | str))
    except ValueError:
        return "format"
    return None if -90 <= latitude <= 90 and -180 <= longitude <= 180 else "format"  # noqa: PLR2004 -- degrees


def _text_fault(text: str, most: int | None = None) -> FaultCode | None:
    if not text.strip():
        return "empty"
    if _LAYOUT.search(text):
        return "layout"
    return "too_long" if most is not None and len(text) > most else None


def _lower(word: object) -> str | None:
    return word.lower() if isinstance(word, str) else None
