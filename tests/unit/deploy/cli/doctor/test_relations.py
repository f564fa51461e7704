"""Which tables and indexes doctor expects: those that the migrations leave."""

from deploy.cli.doctor.postgres_schema import relations

BEFORE = """
create table kept (a int);
create table gone (a int);
create unlogged table fast (a int);  -- create table commented (a int)
create unique index kept_once on kept (a);
create index gone_by_a on gone (a);
"""
AFTER = """
-- outside a transaction
create index concurrently if not exists kept_by_a on kept (a);
drop index concurrently if exists gone_by_a;
drop table if exists gone cascade;
"""


def test_what_later_files_take_away_is_not_expected() -> None:
    assert relations([BEFORE, AFTER]) == {"kept": True, "fast": True, "kept_once": False, "kept_by_a": False}


def test_a_table_that_is_made_again_is_expected() -> None:
    assert relations(["create table a (x int); drop table a, b; create table if not exists b (x int)"]) == {"b": True}
