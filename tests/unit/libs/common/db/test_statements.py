"""SQL text is cut where a statement ends, and nowhere else."""

from hypothesis import given
from hypothesis import strategies as st

from libs.common.db.statements import statements


def test_each_statement_comes_by_itself_without_the_comments_around_it() -> None:
    sql = """
    -- outside a transaction; this is a comment
    create index concurrently if not exists a on t (x);
    /* nested /* ; */ ; */
    -- and another one
    analyze t; ;
    vacuum t
    -- the end;
    """
    found = statements(sql)
    assert found[:2] == ["create index concurrently if not exists a on t (x)", "analyze t"]
    assert found[2].startswith("vacuum t")
    assert len(found) == 3


def test_a_semicolon_in_a_text_a_name_or_a_body_ends_nothing() -> None:
    for one in (
        "select 'a;b', 'it''s; not'",
        r"select E'\'; still', 1",
        'create table ";" (x int)',
        "do $$ begin perform 1; end $$",
        "do $body$ begin execute $$select 1;$$; end $body$",
        "select 1 -- ; no\n + 1",
        "select /* ; */ 1",
    ):
        assert statements(f"{one}; select 2;") == [one, "select 2"]


def test_a_text_without_statements_has_none() -> None:
    assert statements("") == statements("-- nothing;\n/* ; */ ;\n;") == []


PIECES = st.sampled_from(
    [
        "select 1",
        "'a;''b'",
        '"n;"',
        "$$ ; $$",
        "$t$ ' ; $t$",
        "$1",
        "a$b",
        "e'\\';'",
        "/* ; */",
        "-- ;\n",
        "x - 1",
        "(",
        ")",
    ]
)


@given(st.lists(st.lists(PIECES, min_size=1).map(" ".join).map("select ".__add__), max_size=6))
def test_what_was_joined_is_cut_again(parts: list[str]) -> None:
    assert [part.split() for part in statements("\n;\n".join(parts))] == [part.split() for part in parts]
