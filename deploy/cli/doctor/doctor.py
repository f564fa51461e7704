"""The whole of ``transom doctor``: look, write the report, end."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn

from deploy.cli.doctor.checks import CHECKS
from deploy.cli.doctor.configuration import look_at_configuration, read_variables
from deploy.cli.doctor.findings import Report
from deploy.cli.doctor.output import write_json, write_words
from deploy.cli.doctor.running import run_checks
from deploy.cli.doctor.site import site_of

_FAILED, _INTERRUPTED = 1, 130


def doctor(services: Sequence[str], *, as_json: bool) -> NoReturn:
    """Look at everything that these services need, write the report to stdout, and end the process.

    The interpreter's own end would wait for a thread that never ends, also after Ctrl-C or a fault.
    """
    try:
        code = _look_and_write(services, as_json=as_json)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- a bug; its text may hold what must not be printed
        sys.stderr.write(f"transom: doctor itself failed ({type(error).__name__}): report it with its version\n")
        code = _FAILED
    os._exit(code)


def _look_and_write(services: Sequence[str], *, as_json: bool) -> int:
    variables = read_variables(os.environ)
    site = site_of(services, variables)
    found = run_checks(CHECKS, site)
    report = Report.of([*look_at_configuration(variables, services), *found])
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a host's name may not fit the terminal's encoding
    with suppress(BrokenPipeError, SystemExit):  # who read us has seen enough, of which Rich makes an exit
        (write_json if as_json else write_words)(report, site.secrets, sys.stdout)
        sys.stdout.flush()
    return report.exit_code
