"""Rows as columns, for statements that read arrays through ``unnest``. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any


def as_columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """One list for each column, in the order of the rows. No rows make no columns: callers ask nothing then."""
    return [list(column) for column in zip(*rows, strict=True)]
