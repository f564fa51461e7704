"""The load file: YAML that is checked against its format. Every fault has its line and field.

No server is asked. Unknown fields are faults: a misspelt ``sms_activ`` would leave an organisation without bridges.
The file may be another program's. So a fault shows of its keys only what has the form of a field's name, and masked.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import yaml
from babel.numbers import list_currencies
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from deploy.cli.load_policy import CountryCode, PolicyEntry, country
from libs.common.countries import ANYWHERE
from libs.common.errors import ConfigurationError
from libs.common.events.directory import (
    ConsentCategory,
    Name,
    Phone,
    PortalHost,
    SignIn,
    SmsAccountName,
    SmsProviderName,
)
from libs.common.events.fields import MetaId, OrgId
from libs.common.redact import scrub
from libs.common.template_parameters import names_in

_SHOWN = 20
_FIELD_NAME = re.compile(r"[a-z][A-Za-z_-]{0,39}|\[key\]")  # [key] is pydantic's word
_MOST_REPEATED = 1_000_000
"""Entries that the aliases of a file may stand for. Aliases of aliases multiply: a few lines would fill all memory."""


def _currency(code: str) -> str:
    if code not in list_currencies():
        raise ValueError("a currency of ISO 4217 is needed, such as GBP or EUR")
    return code


Currency = Annotated[str, AfterValidator(_currency)]
RateCountry = Annotated[str, AfterValidator(lambda code: code if code == ANYWHERE else country(code))]
TemplateStatus = Literal[
    "APPROVED",
    "FLAGGED",
    "PENDING",
    "IN_APPEAL",
    "REJECTED",
    "PAUSED",
    "DISABLED",
    "LIMIT_EXCEEDED",
    "ARCHIVED",
    "LOCKED",
    "PENDING_DELETION",
    "DELETED",
]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NumberEntry(_Entry):
    phone_number_id: MetaId
    waba_id: MetaId
    display_number: Phone


class CustomerEntry(_Entry):
    customer_id: UUID
    name: Name | None = None
    phone: Phone | None = None
    consents: dict[ConsentCategory, bool] = Field(default_factory=dict)


class TemplateEntry(_Entry):
    """A template as Meta has approved it; it belongs to every WABA of its org."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,512}$")]
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}(_[A-Z]{2})?$")]
    category: Literal["UTILITY", "MARKETING", "AUTHENTICATION"]
    parameter_format: Literal["NAMED", "POSITIONAL"] = "POSITIONAL"
    status: TemplateStatus = "APPROVED"
    body: Annotated[str, Field(min_length=1, max_length=1024)]
    header: dict[str, Any] | None = None
    buttons: list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _places_by_format(self) -> Self:
        numbers = [place.isdecimal() for place in names_in(self.body)]
        if self.parameter_format == "POSITIONAL" and not all(numbers):
            raise ValueError("POSITIONAL has places such as {{1}}: with names the parameter_format is NAMED")
        if self.parameter_format == "NAMED" and any(numbers):
            raise ValueError(
                "NAMED has places such as {{customer_name}}: with numbers the parameter_format is POSITIONAL"
            )
        return self


class OrgEntry(_Entry):
    """An organisation with everything that belongs to it."""

    org_id: OrgId
    name: Annotated[Name, Field(min_length=1)]
    sms_number: Phone | None = None
    sms_active: bool = False
    portal_host: PortalHost | None = None
    sms_provider: SmsProviderName | None = None
    sms_account: SmsAccountName | None = None
    country: CountryCode | None = None
    currency: Currency | None = None
    sign_in: SignIn | None = None
    credit_exhausted: bool | None = None
    policy: PolicyEntry = PolicyEntry()
    numbers: list[NumberEntry] = Field(default_factory=list)
    customers: list[CustomerEntry] = Field(default_factory=list)
    templates: list[TemplateEntry] = Field(default_factory=list)


class RateEntry(_Entry):
    """What one message (SMS: one segment) costs from a day on; ``country: "*"`` stands for any."""

    from_: Annotated[date, Field(alias="from")]
    channel: Literal["whatsapp", "sms"]
    category: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    country: RateCountry
    currency: Currency
    price: Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=6)]

    @model_validator(mode="after")
    def _one_price_of_sms(self) -> Self:
        if self.channel == "sms" and self.category != "sms":
            raise ValueError("every SMS, a bridge too, is charged by the price of category sms")
        return self


class LoadFile(_Entry):
    orgs: list[OrgEntry] = Field(default_factory=list)
    rate_card: list[RateEntry] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file without faults in itself, and the line of everything in it."""

    path: Path
    content: LoadFile
    lines: dict[tuple[str | int, ...], int]

    def fault(self, place: Sequence[str | int], what: str) -> ConfigurationError:
        """An error that names file, line and field."""
        return ConfigurationError(f"{self.path}:{_line(self.lines, place)}: {_field(place)}: {what}")


def read(path: Path) -> Loaded:
    """Read and check the file. Raises ConfigurationError: one line per fault, with line number and field."""
    try:
        return _read(path)
    except RecursionError:
        raise ConfigurationError(f"{path}:1: nests too deeply, or contains itself") from None


class _Loader(yaml.SafeLoader):
    """Keeps dates as text for their field to parse. YAML's own error for 2026-13-01 would have no line number."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _loader, node: str(node.value))


def _read(path: Path) -> Loaded:
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}:{_yaml_place(error)}") from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigurationError(f"{path}:1: a mapping with orgs and rate_card is expected")
    _count_repeated(path, node, {})
    lines = dict(_places(node, ()))
    _keys_once(path, node)
    try:
        content = LoadFile.model_validate(_Loader("").construct_document(node))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}:{_yaml_place(error)}") from None
    except ValidationError as error:
        raise _faults(path, lines, error) from None
    except ValueError:  # an explicit tag, such as !!int, on what it does not fit
        raise ConfigurationError(f"{path}:1: not YAML: a tag does not fit its value") from None
    loaded = Loaded(path, content, lines)
    _hold_together(loaded)
    return loaded


def _count_repeated(path: Path, node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many entries aliases repeat within the node. Each node is visited once; ``sizes`` is what each stands for."""
    size, repeated = 1, 0
    for child in _children(node):
        repeated += sizes[id(child)] if id(child) in sizes else _count_repeated(path, child, sizes)
        size += sizes[id(child)]
    if repeated > _MOST_REPEATED:
        raise ConfigurationError(
            f"{path}:{node.start_mark.line + 1}: aliases repeat more than {_MOST_REPEATED:,} entries here"
        )
    sizes[id(node)] = size
    return repeated


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for entry in node.value:
            yield from entry
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _keys_once(path: Path, node: yaml.Node) -> None:
    """Refuse duplicate keys. YAML itself would take the last of them silently."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                name = _field([str(key.value)])
                raise ConfigurationError(f"{path}:{key.start_mark.line + 1}: {name}: stands twice in the same place")
            seen.add(str(key.value))
            _keys_once(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _keys_once(path, value)


def _hold_together(loaded: Loaded) -> None:
    """Faults that no single field shows: duplicates, and templates without a WABA."""
    seen: dict[tuple[str, ...], tuple[str | int, ...]] = {}
    for identity, place in _identities(loaded.content):
        first = seen.setdefault(identity, place)
        if first is not place:
            raise loaded.fault(place, f"stands in line {_line(loaded.lines, first)} already")
    for o, org in enumerate(loaded.content.orgs):
        if org.templates and not org.numbers:
            raise loaded.fault(
                ("orgs", o, "templates"), "templates need at least one number, whose WABA they belong to"
            )


def _identities(content: LoadFile) -> Iterator[tuple[tuple[str, ...], tuple[str | int, ...]]]:
    """What the file may name only once, each with its place. A template belongs to every WABA of its organisation."""
    for o, org in enumerate(content.orgs):
        yield ("org", org.org_id), ("orgs", o, "org_id")
        for n, number in enumerate(org.numbers):
            yield ("number", number.phone_number_id), ("orgs", o, "numbers", n, "phone_number_id")
        for c, customer in enumerate(org.customers):
            yield ("customer", str(customer.customer_id)), ("orgs", o, "customers", c, "customer_id")
        for t, template in enumerate(org.templates):
            for waba_id in {number.waba_id for number in org.numbers} or {org.org_id}:
                yield (
                    ("template", org.org_id, waba_id, template.name, template.language),
                    ("orgs", o, "templates", t, "name"),
                )
    for r, rate in enumerate(content.rate_card):
        yield (
            ("price", str(rate.from_), rate.channel, rate.category, rate.country, rate.currency),
            ("rate_card", r),
        )


def _faults(path: Path, lines: dict[tuple[str | int, ...], int], error: ValidationError) -> ConfigurationError:
    faults = [
        f"{path}:{_line(lines, fault['loc'])}: {_field(fault['loc'])}: {_plain(fault)}"
        for fault in error.errors(include_url=False)
    ]
    more = [f"… and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return ConfigurationError("\n".join(faults[:_SHOWN] + more))


def _plain(fault: ErrorDetails) -> str:
    match fault["type"]:
        case "extra_forbidden":
            return "no such field is known here"
        case "model_type":
            return "fields are expected here"
        case "string_type":
            return "text is expected: put it in quotes"
        case _:
            told = fault["msg"].removeprefix("Value error, ")
            return scrub(f"{told}, not {fault['input']!r:.60}" if "policy" in fault["loc"] else told)


def _places(node: yaml.Node, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            step = (*place, str(key.value))
            yield from _places(value, step)
            yield step, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _places(value, (*place, index))


def _line(lines: dict[tuple[str | int, ...], int], place: Sequence[str | int]) -> int:
    """The line of the place, or of the nearest entry around it that the file has."""
    steps = tuple(place)
    while steps and steps not in lines:
        steps = steps[:-1]
    return lines.get(steps, 1)


def _field(place: Sequence[str | int]) -> str:
    path = ""
    for step in (step if isinstance(step, int) or _FIELD_NAME.fullmatch(step) else "…" for step in place):
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return scrub(path) or "file"


def _yaml_place(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem_mark.line + 1}: not YAML: {scrub(str(error.problem))}"
    return "1: not YAML"
