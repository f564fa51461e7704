"""What ingest reads from the environment."""

from pydantic import SecretStr

from libs.common.settings import (
    ConsumerSettings,
    MetaWebhookSettings,
    PostgresSettings,
    PublicUrlSettings,
    ServiceSettings,
    WindowSettings,
)


class IngestSettings(
    ServiceSettings,
    ConsumerSettings,
    PostgresSettings,
    WindowSettings,
    PublicUrlSettings,
    MetaWebhookSettings,
):
    """Twilio's tokens verify its callbacks; without them, or without PUBLIC_URL, every callback is refused."""

    twilio_auth_tokens: SecretStr = SecretStr("")
