"""How many files and connections this process may have open."""

import resource

from libs.common.bounds import Bounds
from libs.common.errors import ConfigurationError

_OURS = 256
"""What a sender has open beside its calls: pool, brokers, what is being closed, some connections to its HTTP server."""


def allow_calls(number: int, setting: str) -> None:
    """Raise the limit of open files of this process, where it is too low for so many calls at once.

    The HTTP server takes as many connections as the limit allows, so where the system allows it there is room for all
    of them as well. A flood of them then takes no call's place.

    Raises ConfigurationError, which names ``setting``, where the system does not allow as many.
    """
    wanted = number + _OURS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    roomy = wanted + Bounds().connections
    if soft == resource.RLIM_INFINITY or soft >= roomy:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigurationError(
            f"configuration: {setting} needs {wanted} open files and the system allows {hard}: set it lower,"
            f" or raise the hard limit (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (roomy if hard == resource.RLIM_INFINITY else min(roomy, hard), hard))
