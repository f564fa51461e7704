"""Meta's limits on a template, checked before Meta is asked. Pure.

Rule 1: every fault names its field as the API does (``components.0.text``), the part of the page's form, and the
        limit in a sentence.
Rule 2: what is checked here Meta refuses as well. Where Meta's word is not sure the template goes to Meta.
Rule 3: a template has the parts that this service can show and send: header, body, footer and buttons.

Sources: Meta, "Template components" (lengths, number and order of buttons, examples), "Create templates" (names,
variables), and its refusals 2388040, 2388043, 2388047, 2388072, 2388073, 2388293, 2388299. The share of variables
is not published: 2388293 comes where a text has no more than two words of its own for each.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as of_class
from gettext import NullTranslations
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from libs.common.pages.entries import N_

Check = Literal["name", "form", "lengths", "placement", "examples", "words", "buttons"]
Part = Literal["account", "name", "language", "category", "header", "body", "footer", "buttons", "components"]
CATEGORIES = ("UTILITY", "MARKETING")
FORMATS = ("NAMED", "POSITIONAL")
MEDIA = ("IMAGE", "VIDEO", "DOCUMENT")

BODY, HEADER, FOOTER = 1024, 60, 60
BUTTONS, LABEL, URL, PHONE, CODE = 10, 25, 2000, 20, 15
_MOST_OF = {"QUICK_REPLY": 10, "URL": 2, "PHONE_NUMBER": 1, "COPY_CODE": 1}
_WORDS_PER_VARIABLE = 2

_NAME = re.compile(r"[a-z0-9_]{1,512}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Z]{2})?")
_VARIABLE = re.compile(r"\{\{([^{}]*)\}\}")
_NAMED = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MARKUP = re.compile(r"[*_~`]")
_EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f\u200d]")
_PHONE = re.compile(r"\+?[0-9]{5,19}")
_LINK = re.compile(r"https?://[^\s/]+\.[^\s]*")


@dataclass(frozen=True, slots=True)
class Fault:
    """What Meta would refuse. ``message`` is a sentence of the catalogue with ``values`` in it."""

    field: str
    part: Part
    check: Check
    message: str
    values: Mapping[str, object] = of_class(default_factory=dict)

    def text(self, words: NullTranslations | None = None) -> str:
        """The sentence, in English without ``words``."""
        return (words.gettext(self.message) if words is not None else self.message) % self.values


class Content(NamedTuple):
    """What a person wants of a template. ``components`` come from outside and may have any shape."""

    name: str
    language: str
    category: str
    parameter_format: str
    components: Any


def faults_of(content: Content) -> list[Fault]:
    """Everything that Meta would refuse, in the order of the form."""
    return [*faults_of_identity(content), *_of_components(content)]


def faults_of_identity(content: Content) -> list[Fault]:
    """The faults of what even a draft must have: name, language, category and format of parameters."""
    return [*_of_name(content), *_of_category(content)]


def faults_of_content(content: Content) -> list[Fault]:
    """The faults of what an edit may change: category and components."""
    return [*_of_category(content), *_of_components(content)]


def variables(text: str) -> list[str]:
    """The variables of a text, each once, in order."""
    return list(dict.fromkeys(name.strip() for name in _VARIABLE.findall(text)))


def by_number(names: Sequence[str]) -> list[str]:
    """Variables in the order in which Meta takes the examples of numbered ones."""
    return sorted(names, key=lambda name: (len(name), name))


def _of_name(content: Content) -> Iterator[Fault]:
    if not _NAME.fullmatch(content.name):
        message = N_("A name has 1 to 512 small letters, digits and underscores.")
        yield Fault("name", "name", "name", message)
    if not _LANGUAGE.fullmatch(content.language):
        yield Fault("language", "language", "form", N_("A language is a code such as en_GB or de."))


def _of_category(content: Content) -> Iterator[Fault]:
    if content.category == "AUTHENTICATION":
        message = N_("Templates with one-time codes are made in WhatsApp Manager.")
        yield Fault("category", "category", "form", message)
    elif content.category not in CATEGORIES:
        yield Fault("category", "category", "form", N_("The category is UTILITY or MARKETING."))
    if content.parameter_format not in FORMATS:
        message = N_("The format of parameters is NAMED or POSITIONAL.")
        yield Fault("parameter_format", "components", "form", message)


def _of_components(content: Content) -> Iterator[Fault]:
    listed = content.components
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        yield Fault("components", "components", "form", N_("Components are a list of objects."))
        return
    seen: set[str] = set()
    for index, one in enumerate(listed):
        kind, at = str(one.get("type")).upper(), f"components.{index}"
        if kind not in _CHECKS:
            message = N_(
                "A template has a header, a body, a footer and buttons; other parts are made in WhatsApp Manager."
            )
            yield Fault(f"{at}.type", "components", "form", message)
        elif kind in seen:
            message = N_("A template has one part of this type.")
            yield Fault(f"{at}.type", _PARTS[kind], "form", message)
        else:
            yield from _CHECKS[kind](one, at, content)
        seen.add(kind)
    if "BODY" not in seen:
        yield Fault("components", "body", "lengths", _EMPTY_BODY)


_EMPTY_BODY = N_("A template needs a text.")
_TOO_LONG = N_("At most %(most)d characters; these are %(count)d.")
_ONE_LINE = N_("This is one line of text.")
_NO_EMOJI = N_("Emojis and formatting are not allowed here.")


def _body(one: Mapping[str, Any], at: str, content: Content) -> Iterator[Fault]:
    text, where = one.get("text"), f"{at}.text"
    if not isinstance(text, str) or not text.strip():
        yield Fault(where, "body", "lengths", _EMPTY_BODY)
        return
    if len(text) > BODY:
        yield Fault(where, "body", "lengths", _TOO_LONG, {"most": BODY, "count": len(text)})
    if text.strip().startswith("{{") or text.strip().endswith("}}"):
        message = N_("A placeholder may not be the first or the last thing in the text.")
        yield Fault(where, "body", "placement", message)
    if re.search(r"\}\}\s*\{\{", text):
        message = N_("Two placeholders stand side by side. Put a word between them.")
        yield Fault(where, "body", "placement", message)
    names = _VARIABLE.findall(text)
    own = len(_VARIABLE.sub(" ", text).split())
    if names and own <= _WORDS_PER_VARIABLE * len(names):
        message = N_("There are too many placeholders for so few words: write at least %(least)d words of your own.")
        yield Fault(where, "body", "words", message, {"least": _WORDS_PER_VARIABLE * len(names) + 1})
    yield from _variables(one, text, at, "body", content.parameter_format)


def _header(one: Mapping[str, Any], at: str, content: Content) -> Iterator[Fault]:
    kind = str(one.get("format") or "").upper()
    if kind in MEDIA:
        given = one.get("example")
        handles = given.get("header_handle") if isinstance(given, Mapping) else None
        if not isinstance(handles, list) or not handles or not all(isinstance(h, str) and h for h in handles):
            message = N_("A header with a file needs the handle of an uploaded example.")
            yield Fault(f"{at}.example", "header", "examples", message)
        return
    if kind == "LOCATION":
        return
    text, where = one.get("text"), f"{at}.text"
    if kind != "TEXT":
        message = N_("A header is TEXT, IMAGE, VIDEO, DOCUMENT or LOCATION.")
        yield Fault(f"{at}.format", "header", "form", message)
        return
    if not isinstance(text, str) or not text.strip():
        yield Fault(where, "header", "lengths", N_("A header has a text, or there is none."))
        return
    if len(text) > HEADER:
        yield Fault(where, "header", "lengths", _TOO_LONG, {"most": HEADER, "count": len(text)})
    fixed = _VARIABLE.sub("", text)
    if "\n" in text:
        yield Fault(where, "header", "form", _ONE_LINE)
    if _MARKUP.search(fixed) or _EMOJI.search(fixed):
        yield Fault(where, "header", "form", _NO_EMOJI)
    if len(variables(text)) > 1:
        yield Fault(where, "header", "placement", N_("A header has at most one placeholder."))
    yield from _variables(one, text, at, "header", content.parameter_format)


def _footer(one: Mapping[str, Any], at: str, _content: Content) -> Iterator[Fault]:
    text, where = one.get("text"), f"{at}.text"
    if not isinstance(text, str) or not text.strip():
        yield Fault(where, "footer", "lengths", N_("A footer has a text, or there is none."))
        return
    if len(text) > FOOTER:
        yield Fault(where, "footer", "lengths", _TOO_LONG, {"most": FOOTER, "count": len(text)})
    if "{{" in text or "}}" in text:
        yield Fault(where, "footer", "placement", N_("A footer has no placeholders."))
    if "\n" in text:
        yield Fault(where, "footer", "form", _ONE_LINE)
    if _EMOJI.search(text):
        yield Fault(where, "footer", "form", _NO_EMOJI)


def _variables(
    one: Mapping[str, Any], text: str, at: str, part: Literal["header", "body"], parameter_format: str
) -> Iterator[Fault]:
    """Names of variables, and an example for each."""
    where, names = f"{at}.text", variables(text)
    if "{{" in (rest := _VARIABLE.sub("", text)) or "}}" in rest:
        message = N_("A placeholder is written {{name}}: these brackets do not match.")
        yield Fault(where, part, "placement", message)
    if parameter_format == "NAMED":
        if not all(_NAMED.fullmatch(name) for name in names):
            message = N_(
                "The name of a placeholder has small letters, digits and underscores, and begins with a letter."
            )
            yield Fault(where, part, "placement", message)
    elif sorted(names) != sorted(str(n) for n in range(1, len(names) + 1)):
        message = N_("Numbered placeholders count from {{1}} without a gap.")
        yield Fault(where, part, "placement", message)
    given = _examples(one, names, part, parameter_format)
    for name in names:
        example = given.get(name, "")
        if not example.strip():
            message = N_("An example for the placeholder %(name)s is missing.")
            yield Fault(f"{at}.example", part, "examples", message, {"name": name})
        elif re.search(r"[\n\t]| {5}", example) or "{{" in example:
            message = N_("The example for %(name)s is one line of text without placeholders.")
            yield Fault(f"{at}.example", part, "examples", message, {"name": name})


def _examples(
    one: Mapping[str, Any], names: Sequence[str], part: Literal["header", "body"], parameter_format: str
) -> dict[str, str]:
    """The texts given as examples, by name. Numbered ones are in ``by_number``. Those of another shape are missing."""
    example = one.get("example")
    found = example if isinstance(example, Mapping) else {}
    if parameter_format == "NAMED":
        listed = found.get(f"{part}_text_named_params")
        return {
            one["param_name"]: one["example"]
            for one in (listed if isinstance(listed, list) else ())
            if isinstance(one, Mapping)
            and isinstance(one.get("param_name"), str)
            and isinstance(one.get("example"), str)
        }
    values = found.get(f"{part}_text")
    if part == "body" and isinstance(values, list):
        values = values[0] if values and isinstance(values[0], list) else ()
    if not isinstance(values, list):
        return {}
    return {name: value for name, value in zip(by_number(names), values, strict=False) if isinstance(value, str)}


def _buttons(one: Mapping[str, Any], at: str, _content: Content) -> Iterator[Fault]:
    buttons, where = one.get("buttons"), f"{at}.buttons"
    if not isinstance(buttons, list) or not buttons or not all(isinstance(b, Mapping) for b in buttons):
        yield Fault(where, "buttons", "buttons", N_("Buttons are a list of at least one object."))
        return
    if len(buttons) > BUTTONS:
        yield Fault(where, "buttons", "buttons", N_("A template has at most %(most)d buttons."), {"most": BUTTONS})
    kinds = [str(button.get("type")).upper() for button in buttons]
    for kind in dict.fromkeys(kinds):
        most = _MOST_OF.get(kind)
        if most is None:
            message = N_(
                "A button is QUICK_REPLY, URL, PHONE_NUMBER or COPY_CODE; others are made in WhatsApp Manager."
            )
            yield Fault(f"{where}.{kinds.index(kind)}.type", "buttons", "buttons", message)
        elif kinds.count(kind) > most:
            message = N_("A template has at most %(most)d buttons of the type %(kind)s.")
            yield Fault(where, "buttons", "buttons", message, {"most": most, "kind": kind})
    if sum((a == "QUICK_REPLY") != (b == "QUICK_REPLY") for a, b in pairwise(kinds)) > 1:
        yield Fault(where, "buttons", "buttons", N_("Quick replies stand together, before or after the other buttons."))
    labels: set[str] = set()
    for index, (kind, button) in enumerate(zip(kinds, buttons, strict=True)):
        yield from _button(kind, button, f"{where}.{index}", labels)


def _button(kind: str, button: Mapping[str, Any], at: str, labels: set[str]) -> Iterator[Fault]:
    if kind != "COPY_CODE":  # its label is WhatsApp's own
        label = button.get("text")
        if not isinstance(label, str) or not label.strip():
            yield Fault(f"{at}.text", "buttons", "buttons", N_("A button needs a label."))
        elif len(label) > LABEL:
            yield Fault(f"{at}.text", "buttons", "lengths", _TOO_LONG, {"most": LABEL, "count": len(label)})
        elif "{{" in label or "\n" in label or _EMOJI.search(label):
            message = N_("The label of a button is one line without placeholders, emojis and formatting.")
            yield Fault(f"{at}.text", "buttons", "buttons", message)
        elif label in labels:
            yield Fault(f"{at}.text", "buttons", "buttons", N_("Two buttons have the same label."))
        labels.add(str(label))
    match kind:
        case "URL":
            yield from _url(button, at)
        case "PHONE_NUMBER" if not _PHONE.fullmatch(str(button.get("phone_number") or "")):
            message = N_("The number of a button is a phone number of at most %(most)d characters.")
            yield Fault(f"{at}.phone_number", "buttons", "buttons", message, {"most": PHONE})
        case "COPY_CODE" if not 1 <= len(_first(button.get("example"))) <= CODE:
            message = N_("A code to copy needs an example of at most %(most)d characters.")
            yield Fault(f"{at}.example", "buttons", "examples", message, {"most": CODE})


def _url(button: Mapping[str, Any], at: str) -> Iterator[Fault]:
    url = button.get("url")
    if not isinstance(url, str) or not _LINK.fullmatch(url):
        message = N_("The address of a button begins with https:// and has no spaces.")
        yield Fault(f"{at}.url", "buttons", "buttons", message)
        return
    if len(url) > URL:
        yield Fault(f"{at}.url", "buttons", "lengths", _TOO_LONG, {"most": URL, "count": len(url)})
    names = _VARIABLE.findall(url)
    if "{{" in url and (names != ["1"] or not url.endswith("{{1}}")):
        message = N_("The address of a button has at most one placeholder, {{1}}, at its end.")
        yield Fault(f"{at}.url", "buttons", "placement", message)
    if names and not _first(button.get("example")):
        message = N_("The address of a button with a placeholder needs an example.")
        yield Fault(f"{at}.example", "buttons", "examples", message)


def _first(example: object) -> str:
    """An example as Meta takes it: a text, or a list with one."""
    found = example[0] if isinstance(example, Sequence) and not isinstance(example, str) and example else example
    return found if isinstance(found, str) else ""


_CHECKS = {"HEADER": _header, "BODY": _body, "FOOTER": _footer, "BUTTONS": _buttons}
_PARTS: Mapping[str, Part] = {"HEADER": "header", "BODY": "body", "FOOTER": "footer", "BUTTONS": "buttons"}
