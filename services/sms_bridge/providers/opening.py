"""The provider of each account."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

import aiohttp

from libs.common.answers import departures
from libs.common.clock import Clock
from libs.common.events.directory import SmsProviderName
from libs.common.providers.accounts import AccountKey, SmsAccount, SmsAccounts
from services.sms_bridge.providers import SmsProvider
from services.sms_bridge.providers.twilio import Twilio
from services.sms_bridge.providers.vonage import Vonage


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """How providers are called. ``public_url``: where their callbacks go; None: none is asked for."""

    base_urls: Mapping[SmsProviderName, str]
    public_url: str | None
    timeout_seconds: float


def open_http() -> aiohttp.ClientSession:
    """The connections to all providers. No cookie of an answer goes with a later call, which may be of another account.

    Whoever calls counts its calls: looks that hang must not keep a send from its connection.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        trace_configs=[departures()],
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def open_accounts(
    accounts: SmsAccounts, http: aiohttp.ClientSession, config: ProviderConfig, now: Clock
) -> dict[AccountKey, SmsProvider]:
    """A provider for each account, whatever names it has. The caller owns ``http``."""
    opened: dict[AccountKey, SmsProvider] = {}
    for account in accounts:
        if account.key not in opened:
            opened[account.key] = _provider_of(account, http, config, now)
    return opened


def _provider_of(account: SmsAccount, http: aiohttp.ClientSession, config: ProviderConfig, now: Clock) -> SmsProvider:
    base_url = config.base_urls[account.key.provider]
    match account.key.provider:
        case "twilio":
            return Twilio(
                http,
                base_url=base_url,
                account_sid=account.key.account,
                auth_token=account.tokens[0],
                public_url=config.public_url,
                timeout_seconds=config.timeout_seconds,
                now=now,
            )
        case "vonage":
            return Vonage(
                http,
                base_url=base_url,
                api_key=account.key.account,
                api_secret=account.tokens[0],
                public_url=config.public_url,
                timeout_seconds=config.timeout_seconds,
                now=now,
            )
        case _:
            assert_never(account.key.provider)
