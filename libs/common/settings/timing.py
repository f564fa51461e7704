"""The settings of time: windows, holds, and how long a send may last."""

from datetime import timedelta
from typing import Self

from pydantic import model_validator

from libs.common.setting_types import Seconds, SecondsFromZero
from libs.common.settings.base import Settings


class WindowSettings(Settings):
    """The customer service window. A sandbox may make it short."""

    window_seconds: Seconds = 86400.0
    window_margin_seconds: SecondsFromZero = 0.0
    window_doubt_seconds: SecondsFromZero = 300.0
    reaction_opens_window: bool = False

    @model_validator(mode="after")
    def _margin_inside_window(self) -> Self:
        if self.window_margin_seconds >= self.window_seconds:
            raise ValueError("TRANSOM_WINDOW_MARGIN_SECONDS must be smaller than TRANSOM_WINDOW_SECONDS")
        return self

    @property
    def window_length(self) -> timedelta:
        return timedelta(seconds=self.window_seconds)

    @property
    def window_doubt(self) -> timedelta:
        return timedelta(seconds=self.window_doubt_seconds)

    @property
    def window_margin(self) -> timedelta:
        return timedelta(seconds=self.window_margin_seconds)


class ClosingSettings(Settings):
    """A window that closes within this time is shown as closing soon."""

    closing_soon_seconds: SecondsFromZero = 7200.0

    @property
    def closing_soon(self) -> timedelta:
        return timedelta(seconds=self.closing_soon_seconds)


class BridgeSettings(Settings):
    bridge_hold_seconds: Seconds = 86400.0

    @property
    def bridge_hold(self) -> timedelta:
        return timedelta(seconds=self.bridge_hold_seconds)


class ReconcileSettings(Settings):
    """When a command without a send, or a refusal without a decision, counts as lost."""

    reconcile_seconds: Seconds = 60.0

    @property
    def reconcile_after(self) -> timedelta:
        return timedelta(seconds=self.reconcile_seconds)


class SendSettings(Settings):
    """A provider call ends before its claim's lease. The lease ends before evidence settles the claim."""

    send_timeout_seconds: Seconds = 10.0
    send_lease_seconds: Seconds = 20.0
    send_grace_seconds: Seconds = 30.0
    send_settling_seconds: Seconds = 300.0

    @model_validator(mode="after")
    def _timeout_lease_grace(self) -> Self:
        if not self.send_timeout_seconds < self.send_lease_seconds < self.send_grace_seconds:
            raise ValueError(
                "TRANSOM_SEND_TIMEOUT_SECONDS < TRANSOM_SEND_LEASE_SECONDS < TRANSOM_SEND_GRACE_SECONDS must hold"
            )
        return self

    @property
    def send_timeout(self) -> timedelta:
        return timedelta(seconds=self.send_timeout_seconds)

    @property
    def send_lease(self) -> timedelta:
        return timedelta(seconds=self.send_lease_seconds)

    @property
    def send_grace(self) -> timedelta:
        return timedelta(seconds=self.send_grace_seconds)

    @property
    def send_settling(self) -> timedelta:
        """How long after an outage of an evidence source a grace begins: providers retry with growing waits."""
        return timedelta(seconds=self.send_settling_seconds)
