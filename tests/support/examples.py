"""How many examples a law is held against: as many as the profile of this run says.

``transom`` is the profile of ``make check``, ``proofs`` that of ``make proofs``, ``ci`` what CI runs of the latter.
"""

from hypothesis import HealthCheck, settings

_USUAL = 100
_PROFILES = {"transom": _USUAL, "ci": 2 * _USUAL, "proofs": 30 * _USUAL}


def load_profiles() -> None:
    """Register all, and use the usual one unless the command line says otherwise."""
    for name, examples in _PROFILES.items():
        # Laws, not speed: an example may take long on a machine that stands still for a moment.
        settings.register_profile(
            name, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=examples
        )
    settings.load_profile("transom")


def examples(usual: int) -> int:
    """For a test that wants more or fewer than others: ``usual`` with the profile of ``make check``, in proportion with others."""
    return max(1, usual * settings().max_examples // _USUAL)
