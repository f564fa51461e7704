"""What Meta takes as a new template, and what its reviewer says of it. No I/O.

Written from Meta's documents and from refusals that people report, not from the code under test.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from deploy.local.sandbox.meta_errors import bad_template
from deploy.local.sandbox.schemas import Answer, Json

_NAME = re.compile(r"[a-z0-9_]{1,512}\Z")
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Z]{2})?\Z")
_SPOT = re.compile(r"\{\{([^{}]*)\}\}")
_NAMED = re.compile(r"[a-z][a-z0-9_]*\Z")
_BUTTON_KINDS = {"QUICK_REPLY": 10, "URL": 2, "PHONE_NUMBER": 1, "COPY_CODE": 1}
_PROMOTIONAL = re.compile(r"discount|voucher|special offer|% off|we miss you|rabatt|gutschein", re.IGNORECASE)
_SECRETS = re.compile(r"password|card number|\bcvv\b|\bpin\b", re.IGNORECASE)
_MOST_BUTTONS = 10
BODY, HEADER, FOOTER, LABEL, URL, PHONE = 1024, 60, 60, 25, 2000, 20  # characters, by Meta
_WORDS_PER_VARIABLE = 2


class Verdict(NamedTuple):
    status: str
    reason: str = "NONE"


def review(category: str, components: list[Json]) -> Verdict:
    """What the reviewer decides about a template that keeps the rules of form."""
    text = " ".join(str(part.get("text", "")) for part in components)
    if _SECRETS.search(text):
        return Verdict("REJECTED", "SCAM")
    if category == "UTILITY" and _PROMOTIONAL.search(text):
        return Verdict("REJECTED", "TAG_CONTENT_MISMATCH")
    if re.search(r"[#$%]\s*\{\{", text):
        return Verdict("REJECTED", "INVALID_FORMAT")
    return Verdict("APPROVED")


def fault_of_name(name: object, language: object, category: object) -> Answer | None:
    if not isinstance(name, str) or not _NAME.match(name):
        return bad_template(2388019, "Invalid name", "Names have small letters, digits and underscores only.")
    if not isinstance(language, str) or not _LANGUAGE.match(language):
        return bad_template(2388019, "Unsupported language", f"({language}) is not a supported language.")
    if category not in ("UTILITY", "MARKETING", "AUTHENTICATION"):
        return bad_template(2388019, "Invalid category", "The category is not known.")
    return None


def fault_of_parts(components: object, parameter_format: str) -> Answer | None:
    """Meta's refusal of these components, or None."""
    if not isinstance(components, list) or not all(isinstance(one, dict) for one in components):
        return bad_template(2388043, "Missing expected field(s)", "components must be an array of objects.")
    by_type: dict[str, Json] = {}
    for one in components:
        kind = str(one.get("type")).upper()
        if kind in by_type or kind not in ("HEADER", "BODY", "FOOTER", "BUTTONS"):
            return bad_template(2388043, "Unexpected component", f"component {kind} is doubled or unknown")
        by_type[kind] = one
    if "BODY" not in by_type:
        return bad_template(2388043, "Missing expected field(s)", "component of type BODY is missing")
    checks = {"HEADER": _header, "BODY": _body, "FOOTER": _footer, "BUTTONS": _buttons}
    for kind, check in checks.items():
        if kind in by_type and (wrong := check(by_type[kind], parameter_format)) is not None:
            return wrong
    return None


def _body(part: Json, parameter_format: str) -> Answer | None:
    text = part.get("text")
    if not isinstance(text, str) or not text.strip():
        return bad_template(2388072, "Body is wrong", "The body has no text.")
    if len(text) > BODY:
        return bad_template(2388040, "Character limit exceeded", "The body has more than 1024 characters.")
    if re.match(r"\s*\{\{", text) or re.search(r"\}\}\s*\Z", text):
        return bad_template(
            2388299, "Leading or trailing params not allowed", "Variables can't be at the start or end of the template."
        )
    if re.search(r"\}\}\s*\{\{", text):
        return bad_template(2388072, "Body is wrong", "Variables stand right next to each other.")
    spots = _SPOT.findall(text)
    if spots and len(_SPOT.sub(" ", text).split()) <= _WORDS_PER_VARIABLE * len(spots):
        return bad_template(
            2388293, "Parameters words ratio exceeds limit", "This template has too many variables for its length."
        )
    return _variables(part, "body", list(dict.fromkeys(spots)), parameter_format)


def _header(part: Json, parameter_format: str) -> Answer | None:  # noqa: PLR0911  one return per rule
    kind = str(part.get("format")).upper()
    if kind in ("IMAGE", "VIDEO", "DOCUMENT"):
        handles = (part.get("example") or {}).get("header_handle")
        return None if handles else bad_template(2388273, "Missing sample", "A media header needs a sample.")
    if kind == "LOCATION":
        return None
    text = part.get("text")
    if kind != "TEXT" or not isinstance(text, str) or not text.strip():
        return bad_template(2388047, "Header format is incorrect", "The header has no text.")
    if len(text) > HEADER:
        return bad_template(2388040, "Character limit exceeded", "The header has more than 60 characters.")
    if re.search(r"[\n*_~`]|[\U0001F300-\U0001FAFF]", _SPOT.sub("", text)):
        return bad_template(2388047, "Header format is incorrect", "No new lines, formatting or emojis in a header.")
    spots = list(dict.fromkeys(_SPOT.findall(text)))
    if len(spots) > 1:
        return bad_template(2388047, "Header format is incorrect", "A header has at most one variable.")
    return _variables(part, "header", spots, parameter_format)


def _footer(part: Json, _parameter_format: str) -> Answer | None:
    text = part.get("text")
    if not isinstance(text, str) or not text.strip() or "{{" in text or "\n" in text:
        return bad_template(2388073, "Footer is wrong", "A footer is one line of text without variables.")
    if len(text) > FOOTER:
        return bad_template(2388040, "Character limit exceeded", "The footer has more than 60 characters.")
    return None


def _buttons(part: Json, _parameter_format: str) -> Answer | None:
    buttons = part.get("buttons")
    if not isinstance(buttons, list) or not 1 <= len(buttons) <= _MOST_BUTTONS:
        return bad_template(2388043, "Buttons are wrong", "A template has one to ten buttons.")
    kinds = [str(one.get("type")).upper() if isinstance(one, dict) else "" for one in buttons]
    for kind in kinds:
        if kinds.count(kind) > _BUTTON_KINDS.get(kind, 0):
            return bad_template(2388043, "Buttons are wrong", f"too many buttons of type {kind}, or an unknown type")
    changes = sum((one == "QUICK_REPLY") != (other == "QUICK_REPLY") for one, other in pairwise(kinds))
    if changes > 1:
        return bad_template(2388043, "Buttons are wrong", "Quick replies must stand together.")
    faults = (_button(kind, button) for kind, button in zip(kinds, buttons, strict=True))
    return next((wrong for wrong in faults if wrong is not None), None)


def _button(kind: str, button: Json) -> Answer | None:
    label, url = button.get("text"), str(button.get("url") or "")
    if kind != "COPY_CODE" and (not isinstance(label, str) or not 1 <= len(label) <= LABEL):
        return bad_template(2388040, "Character limit exceeded", "A button's label has 1 to 25 characters.")
    spots = _SPOT.findall(url)
    if kind == "URL" and (
        not url.startswith("http") or len(url) > URL or len(spots) > 1 or (spots and not url.endswith("}}"))
    ):
        return bad_template(2388043, "Buttons are wrong", "The address of a button is wrong.")
    if spots and not button.get("example"):
        return bad_template(2388043, "Missing expected field(s)", "A button's variable needs an example.")
    if kind == "PHONE_NUMBER" and not 1 <= len(str(button.get("phone_number") or "")) <= PHONE:
        return bad_template(2388043, "Buttons are wrong", "The phone number of a button is wrong.")
    return None


def _variables(part: Json, place: str, spots: list[str], parameter_format: str) -> Answer | None:
    if not spots:
        return None
    example = part.get("example")
    found = example if isinstance(example, dict) else {}
    if parameter_format == "NAMED":
        if not all(_NAMED.match(spot) for spot in spots):
            return bad_template(2388072, "Invalid variable", "Named variables have small letters, digits, underscores.")
        given = {
            str(one.get("param_name")) for one in found.get(f"{place}_text_named_params") or [] if one.get("example")
        }
        return None if given == set(spots) else _no_example(place)
    if sorted(spots) != sorted(str(n) for n in range(1, len(spots) + 1)):
        return bad_template(2388072, "Invalid variable", "Variables count from {{1}} without a gap.")
    values = found.get(f"{place}_text") or []
    row = values[0] if place == "body" and values else values
    return None if isinstance(row, list) and len(row) == len(spots) and all(row) else _no_example(place)


def _no_example(place: str) -> Answer:
    return bad_template(2388043, "Missing expected field(s)", f"component {place.upper()} is missing examples")
