"""What providers really say, as recorded in ``tests/data``: one file per scenario."""

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"


def recordings(folder: str, prefix: str = "") -> list[str]:
    """The names of the scenarios recorded in a folder."""
    return sorted(path.stem for path in (DATA / folder).glob(f"{prefix}*.json"))


def recording(folder: str, name: str) -> Any:
    """One scenario."""
    return json.loads((DATA / folder / f"{name}.json").read_text(encoding="utf-8"))


def shape(value: Any) -> Any:
    """Keys and types of a JSON value, without its values; a list has the shapes of its elements, each once."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        shapes: list[Any] = []
        for item in map(shape, value):
            if item not in shapes:
                shapes.append(item)
        return shapes
    return "null" if value is None else type(value).__name__
