"""A finding of ``transom doctor``, and the report of all of them. Pure.

A finding says about one subject what is wrong and how to mend it, each in plain sentences. A good one needs no remedy.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.cli.doctor.catalogue import AREA_OF, CATALOGUE, EXIT_CODES, SEVERITIES, SEVERITY_OF, Area, Severity

REPORT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``code`` is a word of the catalogue; any other raises KeyError where the finding is read."""

    code: str
    subject: str
    problem: str
    remedy: str = ""

    @property
    def area(self) -> Area:
        return AREA_OF[self.code]

    @property
    def severity(self) -> Severity:
        return SEVERITY_OF[self.code]


@dataclass(frozen=True, slots=True)
class Report:
    """The findings in order: areas as the catalogue has them, the worst of an area first, each finding once."""

    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> "Report":
        areas = list(CATALOGUE)

        def place(one: Finding) -> tuple[int, int, str, str]:
            return areas.index(one.area), -SEVERITIES.index(one.severity), one.code, one.subject

        return cls(tuple(sorted(dict.fromkeys(findings), key=place)))

    @property
    def severity(self) -> Severity:
        """That of the worst finding."""
        return max((one.severity for one in self.findings), key=SEVERITIES.index, default="ok")

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.severity]

    def counts(self) -> dict[Severity, int]:
        """How many findings there are of each severity, the worst first."""
        return {one: sum(f.severity == one for f in self.findings) for one in reversed(SEVERITIES)}

    def as_json(self) -> dict[str, Any]:
        """The report's public form; ``report_schema.json`` describes it."""
        return {
            "version": REPORT_VERSION,
            "severity": self.severity,
            "exit_code": self.exit_code,
            "counts": self.counts(),
            "findings": [
                {
                    "area": one.area,
                    "severity": one.severity,
                    "code": one.code,
                    "subject": one.subject,
                    "problem": one.problem,
                    "remedy": one.remedy,
                }
                for one in self.findings
            ],
        }


def together(findings: Iterable[Finding]) -> list[Finding]:
    """Findings that say the same about several subjects as one."""
    subjects: dict[tuple[str, str, str], list[str]] = {}
    for one in findings:
        subjects.setdefault((one.code, one.problem, one.remedy), []).append(one.subject)
    return [Finding(code, some(names), problem, remedy) for (code, problem, remedy), names in subjects.items()]


def some(names: Sequence[str], most: int = 5) -> str:
    """The names in a sentence, the first few of many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
