"""Ingest's settings."""

from libs.common.setting_types import secrets_in
from libs.common.settings import (
    MetaWebhookSettings,
    PortalUrlSettings,
    PublicUrlSettings,
    SmsAccountSettings,
    WindowSettings,
    WorkerSettings,
)
from services.ingest.edge import EdgeConfig


class IngestSettings(
    WorkerSettings, WindowSettings, PublicUrlSettings, PortalUrlSettings, MetaWebhookSettings, SmsAccountSettings
):
    """The SMS accounts' secrets verify callbacks. Without them, or without PUBLIC_URL, every callback is refused."""

    @property
    def edge(self) -> EdgeConfig:
        """The secrets by which the edge verifies requests."""
        return EdgeConfig(
            meta_secrets=secrets_in(self.meta_app_secrets),
            verify_token=self.meta_verify_token.get_secret_value().encode(),
            accounts=self.accounts,
            public_url=self.public_url,
        )
