"""The parts of a template in Meta's shape. Pure.

Rule 1: ``components`` holds all of a template. Header, body and buttons are taken out of it in this module alone.
Rule 2: what has another shape than Meta's is left out, never guessed: Meta adds kinds of parts, and a copy stays
        readable.

Source: Meta, template components. A text header and a body name their places ``{{1}}`` or ``{{customer_name}}``, a URL
button has one at its end. Examples stand beside the text: ``header_text``, ``body_text``, ``header_text_named_params``,
``body_text_named_params``; of a button ``example`` is a list.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from libs.common.template_parameters import names_in

Component = Mapping[str, Any]
Where = Literal["header", "body", "button"]
_MEDIA = frozenset({"IMAGE", "VIDEO", "DOCUMENT", "LOCATION", "GIF"})


class Parts(NamedTuple):
    """What a template says. ``header`` is Meta's component, ``buttons`` are its elements."""

    body: str
    header: dict[str, Any] | None
    footer: str | None
    buttons: list[dict[str, Any]] | None


class Parameter(NamedTuple):
    """A value that a send has to give. ``name`` of a named place, ``position`` of a numbered one.

    ``place``: ``header``, ``body`` or ``button``; ``button`` counts the buttons from 0. ``kind``: ``text``, or the
    lower-case format of a media header.
    """

    name: str | None
    position: int | None
    place: Where
    button: int | None
    kind: str
    example: str | None


def parts_of(components: object) -> Parts:
    """The parts of these components. Of several of one type the first counts."""
    header, footer, buttons, body = (_first(components, kind) for kind in ("HEADER", "FOOTER", "BUTTONS", "BODY"))
    listed = None if buttons is None else buttons.get("buttons")
    found = [dict(one) for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    return Parts(
        body=_text(body) or "",
        header=None if header is None else dict(header),
        footer=_text(footer),
        buttons=found or None,
    )


def components_of(body: str, header: Mapping[str, Any] | None, buttons: Sequence[Any] | None) -> list[dict[str, Any]]:
    """Components of a body, a header and buttons, as the load file names them."""
    components: list[dict[str, Any]] = []
    if header:
        kind = str(header.get("format") or header.get("type") or "TEXT").upper()
        components.append({**header, "type": "HEADER", "format": "TEXT" if kind == "HEADER" else kind})
    components.append({"type": "BODY", "text": body})
    if buttons:
        components.append({"type": "BUTTONS", "buttons": list(buttons)})
    return components


def parameters_of(components: object, parameter_format: str) -> list[Parameter]:
    """What a send of this template has to give, in the order of the parts and of their first mention."""
    parts = parts_of(components)
    found: list[Parameter] = []
    if parts.header is not None:
        kind = str(parts.header.get("format") or "TEXT").upper()
        if kind in _MEDIA:
            found.append(Parameter(None, None, "header", None, kind.lower(), None))
        else:
            found += _in_text("header", parts.header, parameter_format)
    found += _in_text("body", _first(components, "BODY") or {}, parameter_format)
    for index, button in enumerate(parts.buttons or ()):
        found += _of_button(index, button)
    return found


def _in_text(place: Literal["header", "body"], component: Component, parameter_format: str) -> Iterator[Parameter]:
    names = names_in(_text(component) or "")
    examples = _examples(place, component, parameter_format)
    if parameter_format == "NAMED":
        for name in names:
            yield Parameter(name, None, place, None, "text", examples.get(name))
        return
    for name in sorted((one for one in names if one.isdigit()), key=int):
        yield Parameter(None, int(name), place, None, "text", examples.get(name))


def _examples(place: Literal["header", "body"], component: Component, parameter_format: str) -> dict[str, str]:
    """The examples of a text by name or number."""
    given = component.get("example")
    if not isinstance(given, Mapping):
        return {}
    if parameter_format == "NAMED":
        named = given.get(f"{place}_text_named_params")
        return {
            str(one.get("param_name")): str(one.get("example"))
            for one in (named if isinstance(named, list) else ())
            if isinstance(one, Mapping) and one.get("example") is not None
        }
    values = given.get(f"{place}_text")
    if place == "body" and isinstance(values, list) and values and isinstance(values[0], list):
        values = values[0]
    return {str(n): str(one) for n, one in enumerate(values if isinstance(values, list) else (), 1)}


def _of_button(index: int, button: Component) -> Iterator[Parameter]:
    """A URL button with a place in its address, a code to copy, and a one-time code want a value."""
    kind = str(button.get("type") or "").upper()
    given = button.get("example")
    example = str(given[0]) if isinstance(given, list) and given else given if isinstance(given, str) else None
    if (kind == "URL" and names_in(str(button.get("url") or ""))) or kind in ("COPY_CODE", "OTP"):
        yield Parameter(None, 1, "button", index, "text", example)


def _first(components: object, kind: str) -> Component | None:
    for one in components if isinstance(components, list) else ():
        if isinstance(one, Mapping) and str(one.get("type") or "").upper() == kind:
            return one
    return None


def _text(component: Component | None) -> str | None:
    found = None if component is None else component.get("text")
    return found if isinstance(found, str) else None
