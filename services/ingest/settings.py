"""What ingest reads from the environment."""

from pydantic import SecretStr

from libs.common.settings import MetaWebhookSettings, PublicUrlSettings, WindowSettings, WorkerSettings, secrets_in
from services.ingest.edge import EdgeConfig


class IngestSettings(WorkerSettings, WindowSettings, PublicUrlSettings, MetaWebhookSettings):
    """Twilio's tokens verify its callbacks. Without them, or without PUBLIC_URL, every callback is refused."""

    twilio_auth_tokens: SecretStr = SecretStr("")

    @property
    def edge(self) -> EdgeConfig:
        """What the edge verifies requests with."""
        return EdgeConfig(
            meta_secrets=secrets_in(self.meta_app_secrets),
            verify_token=self.meta_verify_token.get_secret_value().encode(),
            twilio_tokens=secrets_in(self.twilio_auth_tokens),
            public_url=self.public_url,
        )
