"""Builds the JSON of ``POST /{phone_number_id}/messages`` from a command. Pure.

Source: https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages. ``to`` carries a plus: without it
Meta puts the business number's own country code before it. Where ``to`` and ``recipient`` (a business-scoped user id)
both stand, Meta takes ``to``.
"""

from typing import Any, assert_never

from libs.common.content_limits import MEDIA_WITH_CAPTION
from libs.common.events.content import (
    Contacts,
    Location,
    OutContent,
    OutInteractive,
    OutMedia,
    OutReaction,
    OutTemplate,
    OutText,
)


def payload(
    content: OutContent, *, to: str | None, recipient: str | None, callback: str, quotes: str | None = None
) -> dict[str, Any]:
    """The request's JSON. At least one of ``to`` (E.164) and ``recipient`` is given.

    ``callback`` comes back in every status. ``quotes`` is Meta's id of the message that this one answers; a reaction
    names its message itself, and Meta takes no other beside it.
    """
    address: dict[str, Any] = {}
    if to is not None:
        address["to"] = to if to.startswith("+") else f"+{to}"
    if recipient is not None:
        address["recipient"] = recipient
    if quotes is not None and not isinstance(content, OutReaction):
        address["context"] = {"message_id": quotes}
    kind, what = _content(content)
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **address,
        "type": kind,
        kind: what,
        "biz_opaque_callback_data": callback,
    }


def _content(content: OutContent) -> tuple[str, Any]:  # noqa: PLR0911 -- one arm per kind
    match content:
        case OutText():
            return "text", {"body": content.text, "preview_url": content.preview_url}
        case OutMedia():
            return content.kind, _media(content)
        case Location():
            return "location", _given(
                latitude=content.latitude, longitude=content.longitude, name=content.name, address=content.address
            )
        case Contacts():
            return "contacts", content.contacts
        case OutInteractive():
            return "interactive", content.interactive
        case OutReaction():
            return "reaction", {"message_id": content.message_id, "emoji": content.emoji}
        case OutTemplate():
            return "template", _template(content)
        case _:
            assert_never(content)


def _media(media: OutMedia) -> dict[str, Any]:
    """Meta refuses a caption on audio and stickers, and a file name on anything but documents."""
    return _given(
        id=media.media_id,
        link=media.link,
        caption=media.caption if media.kind in MEDIA_WITH_CAPTION else None,
        filename=media.filename if media.kind == "document" else None,
    )


def _template(template: OutTemplate) -> dict[str, Any]:
    components: list[dict[str, Any]] = []
    if template.header is not None:
        components.append({"type": "header", "parameters": [template.header]})
    if template.parameters:
        components.append({"type": "body", "parameters": _parameters(template.parameters)})
    for index, button in enumerate(template.buttons or ()):
        components.append({"index": str(index), **button, "type": "button"})
    found: dict[str, Any] = {"name": template.name, "language": {"code": template.language}}
    return found | {"components": components} if components else found


def _parameters(parameters: dict[str, str] | list[str]) -> list[dict[str, Any]]:
    """Named templates want every parameter's name, positional ones want their order."""
    if isinstance(parameters, dict):
        return [{"type": "text", "parameter_name": name, "text": text} for name, text in parameters.items()]
    return [{"type": "text", "text": text} for text in parameters]


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
