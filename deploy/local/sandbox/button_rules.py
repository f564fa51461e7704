"""Meta's check of the values that a template message gives for the buttons of its template. No I/O.

Source: Meta, message templates: an address with a variable and a code to copy need a value each; a quick reply may have
a payload; no other button takes one.
"""

import re
from typing import Any

from deploy.local.sandbox.meta_errors import refusal
from deploy.local.sandbox.schemas import Answer, Json

_UGLY = re.compile(r"[\n\t]| {5,}")
_MOST_CODE = 20
_OPTIONAL = {"QUICK_REPLY", "FLOW"}
_VALUE = {"url": "text", "copy_code": "coupon_code", "quick_reply": "payload"}


def button_misfit(buttons: list[Json], components: list[Json]) -> Answer | None:
    """Why the button components of a message do not fit these buttons, or None."""
    given: dict[str, Json] = {}
    for component in components:
        if str(component.get("type")).lower() == "button":
            place = str(component.get("index"))
            if place in given:
                return refusal(132000, f"buttons: Button at index {place} is given twice")
            given[place] = component
    for index, button in enumerate(buttons):
        wrong = _misfit(index, button, given.pop(str(index), None))
        if wrong is not None:
            return wrong
    return refusal(132000, f"buttons: there is no button at index {min(given)}") if given else None


def _misfit(index: int, button: Json, component: Json | None) -> Answer | None:
    kind = str(button.get("type")).upper()
    wanted = _sub_type(kind, button)
    name = kind.replace("_", " ").title()
    if wanted is None:
        if component is None:
            return None
        return refusal(132000, f"buttons: Button at index {index} of type {name} does not require parameters")
    if component is None:
        if kind in _OPTIONAL:
            return None
        return refusal(131008, f"buttons: Button at index {index} of type {name} requires a parameter")
    if str(component.get("sub_type")).lower() != wanted:
        return refusal(132012, f"buttons: Button at index {index} is of type {name}")
    return None if wanted == "flow" else _value(index, wanted, component.get("parameters"))


def _sub_type(kind: str, button: Json) -> str | None:
    if kind == "OTP" or (kind == "URL" and "{{" in str(button.get("url"))):
        return "url"
    return {"COPY_CODE": "copy_code", "QUICK_REPLY": "quick_reply", "FLOW": "flow"}.get(kind)


def _value(index: int, sub_type: str, parameters: Any) -> Answer | None:
    field = _VALUE[sub_type]
    if not isinstance(parameters, list) or len(parameters) != 1:
        return refusal(131008, f"buttons: Button at index {index} requires a parameter")
    parameter = parameters[0]
    if not isinstance(parameter, dict) or str(parameter.get("type")).lower() != field:
        return refusal(132012, f"buttons: Button at index {index} takes a parameter of type {field}")
    value = parameter.get(field)
    if not isinstance(value, str) or not value.strip():
        return refusal(131008, f"Parameter of type {field} is missing its value")
    if sub_type == "copy_code" and len(value) > _MOST_CODE:
        return refusal(131009, f"A code has at most {_MOST_CODE} characters.")
    return refusal(132018) if sub_type != "quick_reply" and _UGLY.search(value) else None
