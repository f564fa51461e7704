"""What ingest reads from the environment."""

from pydantic import SecretStr

from libs.common.settings import (
    BridgeSettings,
    ConsumerSettings,
    MetaWebhookSettings,
    PostgresSettings,
    PublicUrlSettings,
    RedisSettings,
    ServiceSettings,
    WindowSettings,
)


class IngestSettings(
    ServiceSettings,
    ConsumerSettings,
    PostgresSettings,
    RedisSettings,
    WindowSettings,
    BridgeSettings,
    PublicUrlSettings,
    MetaWebhookSettings,
):
    """Twilio's tokens verify its callbacks; without them, or without PUBLIC_URL, every callback is refused."""

    twilio_auth_tokens: SecretStr = SecretStr("")
