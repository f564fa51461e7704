"""The accounts at SMS providers: which one an organisation has, and the secrets that go with each. Pure.

Rule 1: an organisation names its account by ``sms_provider`` and ``sms_account``. Without a name it has the account of
        the single-account variables of its provider; without a provider that of ``SMS_PROVIDER``.
Rule 2: a name that is not configured is no account. No other account stands in for it.
Rule 3: a secret belongs to one account. What it signs is of that account (threat model: every secret signs for
        everybody otherwise).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from libs.common.events.directory import SmsAccountName, SmsProviderName


class AccountKey(NamedTuple):
    """An account at its provider: Twilio's account sid, Vonage's api key."""

    provider: SmsProviderName
    account: str

    @property
    def name(self) -> str:
        """Both in one word."""
        return f"{self.provider}:{self.account}"


@dataclass(frozen=True, slots=True)
class SmsAccount:
    """One account with its credentials, newest first.

    ``tokens``: Twilio's auth tokens or Vonage's api secrets; the first one authenticates our requests. ``signing``: the
    secrets that may sign callbacks; none: every callback is refused. ``messaging_service``: Twilio's, which chooses the
    sender among its numbers; ours is named beside it.
    """

    key: AccountKey
    tokens: tuple[str, ...] = field(repr=False)
    signing: tuple[bytes, ...] = field(repr=False)
    messaging_service: str | None = None


@dataclass(frozen=True, slots=True)
class SmsAccounts:
    """Every account of this installation: ``single`` of the single-account variables, ``named`` of SMS_ACCOUNTS."""

    default: SmsProviderName
    single: Mapping[SmsProviderName, SmsAccount]
    named: Mapping[str, SmsAccount]

    def of(self, provider: str | None, name: str | None) -> SmsAccount | None:
        """The account of an organisation with this ``sms_provider`` and ``sms_account``. None: it is not configured."""
        if name is None:
            return next((one for key, one in self.single.items() if key == (provider or self.default)), None)
        found = self.named.get(name)
        return found if found is not None and provider in (None, found.key.provider) else None

    def signing(self, provider: SmsProviderName, account: str) -> tuple[bytes, ...]:
        """The secrets that may sign callbacks of this account. Empty: it is not configured."""
        return tuple(key for one in self if one.key == (provider, account) for key in one.signing)

    def routes(self) -> list[tuple[str | None, str | None, SmsAccount]]:
        """Every (``sms_provider``, ``sms_account``) that an organisation may have, with its account."""
        pairs: list[tuple[str | None, str | None]] = [(None, None), *((provider, None) for provider in self.single)]
        pairs += [pair for name, one in self.named.items() for pair in ((None, name), (one.key.provider, name))]
        return [(*pair, found) for pair in pairs if (found := self.of(*pair)) is not None]

    def __iter__(self) -> Iterator[SmsAccount]:
        yield from self.single.values()
        yield from self.named.values()


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


_Secret = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]
_Secrets = Annotated[tuple[_Secret, ...], BeforeValidator(_listed)]


class _Entry(BaseModel):
    """One entry of SMS_ACCOUNTS."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    provider: SmsProviderName
    account: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,64}$")]
    credentials: Annotated[_Secrets, Field(min_length=1)]
    signature_secrets: _Secrets = ()
    messaging_service: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9]{1,64}$")] = None

    @model_validator(mode="after")
    def _of_its_provider(self) -> Self:
        if self.provider == "twilio" and self.signature_secrets:
            raise ValueError("signature_secrets are Vonage's; Twilio signs with its credentials")
        if self.provider == "vonage" and self.messaging_service:
            raise ValueError("messaging_service is Twilio's")
        return self


_NAMED: TypeAdapter[dict[str, _Entry]] = TypeAdapter(dict[SmsAccountName, _Entry])


def read_accounts(text: str) -> dict[str, SmsAccount]:
    """SMS_ACCOUNTS: a JSON object of accounts by name. Empty: none.

    Raises ValueError, which names the entry and its field, and no value.
    """
    if not text.strip():
        return {}
    try:
        entries = _NAMED.validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(step) for step in fault["loc"])
        raise ValueError(f"{place or 'it'}: {fault['msg'].removeprefix('Value error, ')}") from None
    return {
        name: account_of(
            entry.provider,
            entry.account,
            entry.credentials,
            signature_secrets=entry.signature_secrets,
            messaging_service=entry.messaging_service,
        )
        for name, entry in entries.items()
    }


def account_of(
    provider: SmsProviderName,
    account: str,
    tokens: Sequence[str],
    *,
    signature_secrets: Sequence[str] = (),
    messaging_service: str | None = None,
) -> SmsAccount:
    """One account. Twilio signs callbacks with the account's tokens, Vonage with secrets of their own."""
    signing = tokens if provider == "twilio" else signature_secrets
    return SmsAccount(
        AccountKey(provider, account), tuple(tokens), tuple(key.encode() for key in signing), messaging_service
    )
