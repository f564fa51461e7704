"""Rows as columns, for statements that read arrays through ``unnest``. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any


def as_columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """One list for each column, in the order of the rows. No rows make no columns: callers ask nothing then.

    A column without a value becomes an empty list: an ``unnest`` of several arrays gives nulls for what the shorter
    ones lack. So nobody writes, sends and reads these nulls. Every statement has a column with values: its keys.
    """
    return [[] if _is_empty(column) else list(column) for column in zip(*rows, strict=True)]


def _is_empty(column: Sequence[Any]) -> bool:
    return column[0] is None and column.count(None) == len(column)
