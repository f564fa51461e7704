"""Windows that outlive the process: Meta does not forget a customer because its caller starts anew.

The file has one line for each opening: number, person, unix seconds. A line that a kill cut short is left out.
"""

from pathlib import Path

from deploy.local.sandbox.customers import Windows


class KeptWindows(Windows):
    """The windows of the file, which is written with every further one. Raises OSError."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        for line in lines:
            match line.split():
                case [number_id, bsuid, at] if at.isdecimal() and line.endswith("\n"):
                    super().opened(number_id, bsuid, int(at))
        fresh = file.with_suffix(".new")
        fresh.write_text("".join(_line(*key, at) for key, at in self._last.items()), encoding="utf-8")
        fresh.replace(file)
        self._file = file.open("a", encoding="utf-8")

    def opened(self, number_id: str, bsuid: str, at: int) -> None:
        """See Windows."""
        super().opened(number_id, bsuid, at)
        self._file.write(_line(number_id, bsuid, at))
        self._file.flush()

    def forget(self) -> None:
        """Empty the file."""
        self._last.clear()
        self._file.truncate(0)


def _line(number_id: str, bsuid: str, at: int) -> str:
    return f"{number_id} {bsuid} {at}\n"
