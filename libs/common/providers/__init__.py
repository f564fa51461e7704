"""What each provider's codes mean: one table per provider, for answers and for statuses alike."""

from libs.common.faults import Fault
from libs.common.providers import meta, twilio


def fault_of(provider: str, code: str | int | None) -> Fault:
    """The fault that a provider's code stands for; None where it named none."""
    return meta.fault_of(code) if provider == "meta" else twilio.fault_of(code)
