"""What the WhatsApp sender is configured with; see deploy/env.example."""

from libs.common.settings import (
    GraphSettings,
    SendSettings,
    WindowSettings,
    WorkerSettings,
)


class WhatsappSenderSettings(WorkerSettings, WindowSettings, SendSettings, GraphSettings):
    """The system user's token is required; a number may carry its own."""
