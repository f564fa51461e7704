"""What the thread shows to staff of a message's content: what the portal shows, and what only staff see. Pure.

Rule 1: every kind of content has words, also one that this build does not know.
Rule 2: no id of a provider is shown: ``entry_of`` has none, and an order's articles are the shop's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from libs.common.pages.entries import MAX_LINES, N_, Entry, entry_of

_MAX_VALUE = 300
_VIEW_ONCE = "131060"
_ICONS = {"audio": "mic", "location": "pin", "order": "cart", "button": "tap"}


def entry_for_staff(content: Mapping[str, Any]) -> Entry:
    """The entry of a stored content, inbound or outbound."""
    kind = content.get("kind")
    entry = _OF_KIND.get(kind if isinstance(kind, str) else "", entry_of)(content)
    return replace(entry, icon=_ICONS.get(str(kind), entry.icon)) if entry.label else entry


def origin_of(content: Mapping[str, Any]) -> tuple[str, str] | None:
    """Where a message of the customer came from, or what it is about: a message of the catalogue, and what it names.

    None: it is the customer's own, and about nothing that Meta names.
    """
    match content:
        case {"referral": {"headline": str(headline)}} if headline.strip():
            return N_("From an advertisement: %(name)s"), headline[:_MAX_VALUE]
        case {"referral": Mapping()}:
            return N_("From an advertisement"), ""
        case {"referred_product": {"product_retailer_id": str(article)}} if article.strip():
            return N_("About the article: %(name)s"), article[:_MAX_VALUE]
        case {"forwarded": True} | {"forwarded": "frequently"}:
            return N_("Forwarded"), ""
    return None


def _order(content: Mapping[str, Any]) -> Entry:
    return replace(entry_of(content), options=tuple(articles_of(content)))


def articles_of(content: Mapping[str, Any]) -> list[str]:
    """What an order asks for, a line for each article; empty for any other content."""
    items, lines = content.get("items"), list[str]()
    for item in items[:MAX_LINES] if isinstance(items, list) else []:
        match item:
            case {"quantity": int() | str() as quantity, "product_retailer_id": str(article)}:
                lines.append(f"{quantity} \N{MULTIPLICATION SIGN} {article}"[:_MAX_VALUE])
    return lines


def _template(content: Mapping[str, Any]) -> Entry:
    entry = entry_of(content)
    if entry.label is None:
        return entry
    values = content.get("parameters")
    shown = values.values() if isinstance(values, Mapping) else values if isinstance(values, list) else []
    options = tuple(str(value)[:_MAX_VALUE] for value in list(shown)[:MAX_LINES])
    name = " · ".join(str(content[part]) for part in ("name", "language") if content.get(part))
    return Entry(N_("Template"), "template", name=name[:_MAX_VALUE] or None, options=options)


def _interactive(content: Mapping[str, Any]) -> Entry:
    entry = entry_of(content)
    if "reply" not in content or entry.label:
        return entry
    return replace(entry, label=N_("Chosen"), icon="tap")


def _button(content: Mapping[str, Any]) -> Entry:
    return replace(entry_of(content), label=N_("Pressed"), icon="tap")


def _bridge(_content: Mapping[str, Any]) -> Entry:
    return Entry(N_("Asked by SMS to come back"), "sms")


def _unsupported(content: Mapping[str, Any]) -> Entry:
    entry = entry_of(content)
    if content.get("erased") is True:
        return entry
    errors = content.get("errors")
    codes = {str(one.get("code")) for one in errors if isinstance(one, Mapping)} if isinstance(errors, list) else set()
    if content.get("type") == "view_once" or _VIEW_ONCE in codes:
        return replace(entry, label=N_("A view-once photo or video: WhatsApp does not hand it to us"), icon="eye")
    return replace(entry, label=N_("WhatsApp does not hand this kind of message to us"))


_OF_KIND: dict[str, Callable[[Mapping[str, Any]], Entry]] = {
    "bridge": _bridge,
    "button": _button,
    "interactive": _interactive,
    "order": _order,
    "template": _template,
    "unsupported": _unsupported,
}
