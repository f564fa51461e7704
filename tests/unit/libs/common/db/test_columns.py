from libs.common.db.columns import as_columns


def test_rows_become_one_list_for_each_column_in_their_order() -> None:
    assert as_columns([("acme", 1, None), ("acme", None, 2)]) == [["acme", "acme"], [1, None], [None, 2]]


def test_a_column_without_a_value_is_not_sent() -> None:
    assert as_columns([("acme", None), ("bravo", None)]) == [["acme", "bravo"], []]


def test_what_is_false_is_a_value() -> None:
    assert as_columns([("", 0), ("", False)]) == [["", ""], [0, False]]
