"""How every event is read and written.

An event is frozen and versioned by its ``type``. It is additive: unknown fields are ignored, and new fields have
defaults. An error names the field and the expected value, never the value that was found.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise, takewhile
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from libs.common.errors import Undecodable, Unreadable

ReadT = TypeVar("ReadT")

_declared: set[str] = set()  # names of fields and kinds in any event: the words of a payload that may be logged


class Part(BaseModel):
    """A piece of an event."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    def encode(self) -> bytes:
        """UTF-8 JSON, times as RFC 3339 UTC."""
        try:
            return orjson.dumps(vars(self), default=fields_or_text, option=orjson.OPT_UTC_Z)
        except TypeError:  # an integer beyond 64 bits, which pydantic writes in twice the time
            return self.model_dump_json().encode()

    @classmethod
    def __pydantic_init_subclass__(cls, **_more: Any) -> None:
        for name, declared in cls.model_fields.items():
            _declared.add(name)
            if get_origin(declared.annotation) is Literal:
                _declared.update(str(word) for word in get_args(declared.annotation))


def encode_object(fields: Mapping[str, Any]) -> bytes:
    """The fields of an event, ``type`` among them, as it is written. Raises TypeError as ``Event.encode_fields``."""
    return orjson.dumps(fields, default=fields_or_text, option=orjson.OPT_UTC_Z)


def fields_or_text(value: Any) -> Any:
    """What orjson does not write itself: a part of an event, and asyncpg's own subclass of UUID."""
    return str(value) if isinstance(value, UUID) else vars(value)


class Event(Part):
    """One record's value. Subclasses declare ``type: Literal[...]`` and ``TYPE``."""

    TYPE: ClassVar[str]
    _names: ClassVar[frozenset[str]] = frozenset()
    """Those of the fields."""

    @classmethod
    def __pydantic_init_subclass__(cls, **more: Any) -> None:
        super().__pydantic_init_subclass__(**more)
        cls._names = frozenset(cls.model_fields)

    @classmethod
    def encode_fields(cls, fields: Mapping[str, Any]) -> bytes:
        """``cls(**fields).encode()`` without validation, for hot paths. A field that is left out is not written.

        A model of a webhook costs ten times as much as its JSON. Values may be instants, ids, parts of events and JSON;
        for any other it raises TypeError.
        """
        if not cls._names.issuperset(fields):
            raise ValueError(f"{cls.TYPE} has no such field: {sorted(fields.keys() - cls._names)}")
        return encode_object({"type": cls.TYPE, **fields})

    @classmethod
    def decode(cls, value: bytes | None) -> Self:
        """The event in a record's value. Raises Undecodable, whose detail names fields and never values."""
        try:
            return cls.model_validate_json(value or b"")
        except ValidationError as error:
            raise undecodable(value, error) from None


def read_json_object(value: bytes | None) -> dict[str, Any]:
    """The JSON object in a record's value.

    Raises Unreadable: ``empty``, ``not_utf8``, ``not_json`` or ``not_an_object``.
    """
    if value is None or not value:
        raise Unreadable("empty", "the record has no value")
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        try:
            value.decode()
        except UnicodeDecodeError as bad:
            raise Unreadable("not_utf8", f"byte {bad.start} is not UTF-8") from None
        raise Unreadable("not_json", f"line {error.lineno}, column {error.colno}") from None
    if not isinstance(found, dict):
        raise Unreadable("not_an_object", "the value is JSON, but not an object")
    return found


def without_nulls(validate: Callable[[bytes], ReadT], value: bytes | None) -> ReadT:
    """What ``validate`` reads in a record's value. Raises its ValidationError.

    Many producers write null for a field that they leave out. Where nothing but nulls does not fit, the value is read
    without those of its own fields and of its parts' fields.
    """
    try:
        return validate(value or b"")
    except ValidationError as error:
        if any(fault["input"] is not None for fault in error.errors(include_url=False, include_context=False)):
            raise
        try:
            given = _given(read_json_object(value))
        except Unreadable:  # a number beyond any float, in a field that is not known here
            raise error from None
    return validate(orjson.dumps({name: _given(v) if isinstance(v, dict) else v for name, v in given.items()}))


def _given(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}


def undecodable(value: bytes | None, error: ValidationError) -> Undecodable:
    """Why the value does not fit, by the most specific reason.

    The reasons: not JSON, an unknown type, an unknown word, or which field.
    """
    try:
        read_json_object(value)
    except Undecodable as reason:
        return reason
    return misfit(error)


def misfit(error: ValidationError, where: str = "") -> Undecodable:
    """The reason why JSON does not fit: ``unknown_type``, ``unknown_value`` or ``bad_fields``.

    ``unknown_value`` is a word that this version does not know. Another version may know it, as it may know another
    type. ``where`` stands before the paths in the detail.
    """
    found = error.errors(include_url=False)
    if any(fault["loc"] == ("type",) for fault in found):
        return Undecodable("unknown_type", where + faults(error))
    return Undecodable("unknown_value" if any(map(_is_strange_word, found)) else "bad_fields", where + faults(error))


def _is_strange_word(fault: ErrorDetails) -> bool:
    match fault["type"], fault["input"]:
        case "literal_error", str(word):
            return bool(word)
        case "union_tag_invalid", {"kind": str(word)}:
            return bool(word)
        case _:
            return False


def faults(error: ValidationError) -> str:
    """``field.path: what was expected`` for at most five fields, no values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{_path(fault) or 'value'}: {_expected(fault)}" for fault in found[:5])


def _path(fault: ErrorDetails) -> str:
    """The path as far as declared fields go. Any further step is a key of an open dictionary: part of the payload.

    What stands behind ``content`` is its kind, by which its fields are chosen, and no field.
    """
    steps = takewhile(lambda step: isinstance(step, int) or step in _declared, fault["loc"])
    return ".".join(str(step) for last, step in pairwise((None, *steps)) if last != "content")


def _expected(fault: ErrorDetails) -> str:
    # Two messages of pydantic quote the value, the second one a character of it.
    match fault["type"]:
        case "union_tag_invalid":
            return "its kind is not known here"
        case "union_tag_not_found":
            return "its kind is missing"
        case "uuid_parsing":
            return "a UUID is expected"
        case _:
            return fault["msg"].removeprefix("Value error, ")


_TYPE = re.compile(r"[a-z_]{1,30}(\.[a-z_]{1,30}){0,3}\.v[0-9]{1,3}")


def named_type(found: object) -> str | None:
    """The type that an event names, where it has the form of our types. It may be logged."""
    name = found.get("type") if isinstance(found, Mapping) else None
    return name if isinstance(name, str) and _TYPE.fullmatch(name) else None


def event_type(found: Mapping[str, Any]) -> str:
    """The event's ``type``. Raises Undecodable when it is missing or no string."""
    name = found.get("type")
    if isinstance(name, str) and name:
        return name
    raise no_type()


def no_type() -> Undecodable:
    """The reason of a record that does not say what it is."""
    return Undecodable("no_type", "field type is missing or not a string")
