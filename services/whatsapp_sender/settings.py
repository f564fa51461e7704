"""What the WhatsApp sender reads from the environment."""

from libs.common.sending.outcomes import Timings
from libs.common.settings import GraphSettings, SendSettings, WindowSettings, WorkerSettings


class WhatsappSenderSettings(WorkerSettings, WindowSettings, SendSettings, GraphSettings):
    """The system user's token is required; a number may carry its own."""

    @property
    def timings(self) -> Timings:
        """The times of this sender."""
        return Timings(timeout=self.send_timeout, lease=self.send_lease, grace=self.send_grace)
