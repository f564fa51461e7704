"""What the WhatsApp sender is configured with; see deploy/env.example."""

from libs.common.settings import (
    ConsumerSettings,
    GraphSettings,
    PostgresSettings,
    SendSettings,
    ServiceSettings,
    WindowSettings,
)


class WhatsappSenderSettings(
    ServiceSettings, ConsumerSettings, PostgresSettings, WindowSettings, SendSettings, GraphSettings
):
    """The system user's token is required; a number may carry its own."""
