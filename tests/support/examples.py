"""How many examples a law is held against: as many as the profile of this run says.

``transom`` is the profile of ``make check``, ``proofs`` that of ``make proofs``, ``ci`` what CI runs of the latter.

The first and the last try the same examples at every run of the same code, so that a red run is a fact about that code
and not about chance. ``proofs`` explores: each of its runs tries others.
"""

from hypothesis import HealthCheck, settings

_USUAL = 100
_PROFILES = {"transom": _USUAL, "ci": 2 * _USUAL, "proofs": 30 * _USUAL}
_EXPLORES = "proofs"


def load_profiles() -> None:
    """Register all, and use the usual one unless the command line says otherwise."""
    for name, examples in _PROFILES.items():
        # Laws, not speed: an example may take long on a machine that stands still for a moment.
        settings.register_profile(
            name,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            max_examples=examples,
            derandomize=name != _EXPLORES,
        )
    settings.load_profile("transom")


def examples(usual: int) -> int:
    """How many examples: ``usual`` under the profile of ``make check``, in proportion under the others."""
    return max(1, usual * settings().max_examples // _USUAL)
