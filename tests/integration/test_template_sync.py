"""Templates are read from Meta: whole lists, in turns, with each organisation's own token, and never backwards."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient
from libs.common.db.pool import Pool, open_pool
from libs.common.directory import templates
from libs.common.directory.reports import TemplateNews
from services.inbox import template_queries, template_sync_queries
from services.inbox.template_answers import page_of
from services.inbox.template_graph import open_template_graph
from services.inbox.template_sync import LOST_AFTER, TemplateSync
from tests.support import world
from tests.support.sandbox import GRAPH_TOKEN
from tests.support.waiting import eventually_true

TEXT = [{"type": "BODY", "text": "Your car is ready."}]


@dataclass
class Accounts:
    """An organisation's account at Meta, and the reader of all that are due."""

    pool: Pool
    sandbox: SandboxClient
    sync: TemplateSync
    org_id: str = "acme"
    waba_id: str = "206400000000001"

    async def template(self, name: str = "car_ready", body: str = "Your {{1}} is ready.", **fields: Any) -> None:
        await self.sandbox.template(name, fields.pop("language", "en_GB"), body, waba_id=self.waba_id, **fields)

    async def read(self) -> None:
        """As if it were due now."""
        await self.sync.seed()
        await self.execute("update template_syncs set due_at = now() - interval '1 minute', leased_until = null")
        await self.sync.read_due()

    async def rows(self, columns: str = "name, language, status") -> list[tuple[Any, ...]]:
        async with self.pool.acquire() as db:
            rows = await db.fetch(
                f"select {columns} from templates where org_id = $1 order by name, language", self.org_id
            )
        return [tuple(row) for row in rows]

    async def execute(self, statement: str, *args: Any) -> None:
        async with self.pool.acquire() as db:
            await db.execute(statement, *args)

    async def state(self, columns: str, org_id: str | None = None) -> tuple[Any, ...]:
        async with self.pool.acquire() as db:
            row = await db.fetchrow(f"select {columns} from template_syncs where org_id = $1", org_id or self.org_id)
        assert row is not None
        return tuple(row)

    async def history(self) -> list[tuple[Any, ...]]:
        async with self.pool.acquire() as db:
            rows = await db.fetch("select event, word, reason, source from template_history order by history_id")
        return [tuple(row) for row in rows]

    async def news(self, word: str, **fields: Any) -> None:
        """A webhook, as ingest stores it."""
        told = TemplateNews(self.waba_id, "car_ready", "en_GB", "status", word, fields.pop("at", self.pool.now()))
        async with self.pool.acquire() as db, db.transaction():
            await templates.record_news(db, [told])


@pytest_asyncio.fixture
async def accounts(database: str, sandbox: SandboxClient, sandbox_url: str) -> AsyncIterator[Accounts]:
    await sandbox.configure(webhooks=False, template_review="hold")
    async with (
        open_pool(database, application_name="test", size=4, command_seconds=10) as pool,
        open_template_graph(base_url=sandbox_url, version="v26.0", timeout_seconds=5) as graph,
    ):
        made = Accounts(pool, sandbox, TemplateSync(pool, graph, token=GRAPH_TOKEN, period=timedelta(hours=1)))
        async with pool.acquire() as db:
            await world.an_org(db, made.org_id, "106400000000001", waba=made.waba_id)
        await sandbox.number("106400000000001", waba_id=made.waba_id)
        yield made


async def test_every_page_of_the_list_is_stored_with_all_parts(accounts: Accounts) -> None:
    buttons = [{"type": "QUICK_REPLY", "text": "Yes"}, {"type": "QUICK_REPLY", "text": "No"}]
    header = {"format": "TEXT", "text": "News"}
    for number in range(205):
        await accounts.template(f"template_{number:03}")
    await accounts.template(
        "car_ready", "Hi {{name}}, all is well.", parameter_format="NAMED", header=header, buttons=buttons
    )
    await accounts.template(
        "car_ready", "Hallo.", language="de", status="REJECTED", rejected_reason="SCAM", quality="RED"
    )
    await accounts.read()
    rows = await accounts.rows(
        "name, language, status, rejected_reason, quality, parameter_format, body, header, buttons"
    )
    assert len(rows) == 207
    assert rows[0] == ("car_ready", "de", "REJECTED", "SCAM", "RED", "POSITIONAL", "Hallo.", None, None)
    assert rows[1] == (
        *("car_ready", "en_GB", "APPROVED", None, "UNKNOWN", "NAMED", "Hi {{name}}, all is well."),
        *(header | {"type": "HEADER"}, buttons),
    )
    synced_at, count, error = await accounts.state("synced_at, templates, error")
    assert (synced_at is not None, count, error) == (True, 207, None)


async def test_what_meta_lists_no_more_is_deleted_stays_readable_and_can_come_back(accounts: Accounts) -> None:
    await accounts.template()
    await accounts.template("other")
    await accounts.read()
    await accounts.sandbox.template_decided(accounts.waba_id, "car_ready", "en_GB", event="DELETED")
    await accounts.read()
    assert await accounts.rows("name, status, body") == [
        ("car_ready", "DELETED", "Your {{1}} is ready."),
        ("other", "APPROVED", "Your {{1}} is ready."),
    ]
    await accounts.execute("update templates set status_at = status_at - $1::interval", LOST_AFTER)  # between both
    await accounts.template(body="Another {{1}} is ready.")
    await accounts.read()
    assert (await accounts.rows("name, status, body"))[0] == ("car_ready", "APPROVED", "Another {{1}} is ready.")
    words = [(event, word) for event, word, _, _ in await accounts.history()]
    assert words == [("status", "APPROVED")] * 2 + [("status", "DELETED"), ("status", "APPROVED")]


@pytest.mark.parametrize("changed", [{"category": "TRANSACTIONAL"}, {"components": None}, {"name": None}])
async def test_what_meta_lists_in_a_shape_that_cannot_be_read_keeps_its_copy(
    accounts: Accounts, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await accounts.template()
    await accounts.template("other")
    await accounts.read()
    before = await accounts.rows("name, status, category, body")

    def odd(status: int, body: Any) -> Any:
        rows = [row | changed if row["name"] == "car_ready" else row for row in body["data"]]
        return page_of(status, body | {"data": rows})

    monkeypatch.setattr("services.inbox.template_graph.page_of", odd)
    await accounts.read()
    assert await accounts.rows("name, status, category, body") == before


async def test_the_list_may_lag_behind_what_was_made_and_deleted_just_now(accounts: Accounts) -> None:
    await a_draft(accounts)
    await accounts.execute("update templates set status = 'PENDING', status_at = now(), draft = null")  # Meta took it
    await accounts.read()
    assert await accounts.rows() == [("car_ready", "en_GB", "PENDING")]
    await accounts.template()
    await accounts.execute("update templates set status = 'DELETED', status_at = now()")  # and Meta deleted it
    await accounts.read()
    assert await accounts.rows() == [("car_ready", "en_GB", "DELETED")]
    await accounts.execute("update templates set status_at = status_at - $1::interval", LOST_AFTER)
    await accounts.read()
    assert await accounts.rows() == [("car_ready", "en_GB", "APPROVED")]


async def test_a_page_that_breaks_off_deletes_nothing(accounts: Accounts) -> None:
    for number in range(150):
        await accounts.template(f"template_{number:03}")
    await accounts.read()
    await accounts.sandbox.fault("meta", "page", endpoint="list", spares=1)
    await accounts.read()
    assert {status for _, _, status in await accounts.rows()} == {"APPROVED"}
    error, failures, rests = await accounts.state("error, failures, rests_until > now()")
    assert (error, failures, rests) == ("server_error", 1, True)


async def test_a_broken_account_rests_and_its_neighbour_on_the_same_waba_is_read(accounts: Accounts) -> None:
    """Both have numbers in one WABA, and each reads with its own token."""
    async with accounts.pool.acquire() as db:
        await world.an_org(db, "bolt", "106400000000002", waba=accounts.waba_id, sms_number=None)
        await db.execute("update whatsapp_numbers set token = 'revoked' where org_id = 'bolt'")
    await accounts.template()
    await accounts.read()
    assert await accounts.state("error, failures, synced_at", "bolt") == ("190", 1, None)
    assert await accounts.state("error, failures") == (None, 0)
    assert len(await accounts.rows()) == 1
    await accounts.news("PAUSED")  # a webhook ends no rest
    await accounts.sync.read_due()
    assert await accounts.state("failures", "bolt") == (1,)
    async with accounts.pool.acquire() as db:
        await db.execute("update whatsapp_numbers set token = null where org_id = 'bolt'")
        later = accounts.pool.now() + timedelta(minutes=1)
        assert await template_sync_queries.wish(db, "bolt", None, later, timedelta(0)) == [accounts.waba_id]
        await db.execute("update template_syncs set due_at = now() - interval '1 minute'")
    await accounts.sync.read_due()
    assert await accounts.state("error, failures, failed_since", "bolt") == (None, 0, None)


async def test_two_replicas_read_an_account_once(accounts: Accounts) -> None:
    await accounts.template()
    await accounts.sync.seed()
    await asyncio.gather(*(accounts.sync.read_due() for _ in range(4)))
    assert len([call for call in await accounts.sandbox.template_calls() if call["endpoint"] == "list"]) == 1


@pytest.mark.parametrize("crowds", [["acme"], ["acme", "crew"]])
async def test_no_organisation_waits_for_all_accounts_of_others_that_are_due(
    accounts: Accounts, crowds: list[str]
) -> None:
    async with accounts.pool.acquire() as db:
        await world.an_org(db, "bolt", "106400000000002", waba="206400000000002", sms_number=None)
        await world.an_org(db, "crew", "106400000000003", waba="206400000000003", sms_number=None)
        await db.execute(
            "insert into template_syncs (org_id, waba_id, due_at)"
            " select o, 500 + n, now() - interval '1 hour' from unnest($1::text[]) o, generate_series(1, 9) n",
            crowds,
        )
        assert await template_sync_queries.wish(db, "bolt", None, accounts.pool.now(), timedelta(0))
    await accounts.sync.read_due()  # Meta knows none of these accounts, which is an answer, too
    async with accounts.pool.acquire() as db:
        begun = [row["org_id"] for row in await db.fetch("select org_id from template_syncs order by started_at")]
    assert sorted(begun) == sorted([*crowds * 9, "bolt"])
    assert begun.index("bolt") == len(crowds)


async def test_a_run_that_was_lost_is_begun_again_when_its_lease_is_over(accounts: Accounts) -> None:
    await accounts.template()
    await accounts.sync.seed()
    async with accounts.pool.acquire() as db:
        assert await template_sync_queries.claim(db, accounts.pool.now(), timedelta(minutes=2)) is not None
    await accounts.sync.read_due()
    assert await accounts.rows() == []
    await accounts.execute("update template_syncs set leased_until = now() - interval '1 second'")
    await accounts.sync.read_due()
    assert len(await accounts.rows()) == 1


async def is_struck(sandbox: SandboxClient) -> bool:
    """Whether the one fault has met its one call."""
    return not await sandbox.faults()


async def test_a_webhook_that_comes_while_a_page_is_read_wins_and_another_run_follows(accounts: Accounts) -> None:
    await accounts.template()
    await accounts.read()
    await accounts.sandbox.fault("meta", "slow", endpoint="list", seconds=60, calls=1)
    await accounts.execute("update template_syncs set due_at = now() - interval '1 minute'")
    reading = asyncio.create_task(accounts.sync.read_due())
    await eventually_true(lambda: is_struck(accounts.sandbox), "Meta is asked for the page")
    await accounts.news("PAUSED")
    await accounts.sandbox.clear_faults()
    await reading
    assert await accounts.rows() == [("car_ready", "en_GB", "PAUSED")]
    soon = await accounts.state("due_at < now() + interval '1 minute'")
    assert soon == (True,)


async def test_an_older_webhook_changes_nothing_that_a_later_list_said(accounts: Accounts) -> None:
    await accounts.template()
    await accounts.read()
    await accounts.news("PAUSED", at=accounts.pool.now() - timedelta(minutes=1))
    assert await accounts.rows() == [("car_ready", "en_GB", "APPROVED")]


async def a_draft(accounts: Accounts, asked: timedelta | None = None) -> template_queries.TemplateRow:
    new = template_queries.NewDraft(accounts.waba_id, "car_ready", "en_GB", "UTILITY", "POSITIONAL", TEXT)
    async with accounts.pool.acquire() as db:
        row = await template_queries.draft(db, accounts.org_id, new, accounts.pool.now())
        assert row is not None
        if asked is not None:
            await db.execute("update templates set asked_at = $1", accounts.pool.now() - asked)
    return row


async def test_nobody_submits_a_text_that_another_person_wrote_meanwhile(accounts: Accounts) -> None:
    row = await a_draft(accounts)
    mine, theirs = ({"category": "UTILITY", "components": [{"type": "BODY", "text": text}]} for text in ("Me.", "You."))
    now = accounts.pool.now()
    async with accounts.pool.acquire() as db:
        for written in (mine, theirs):
            await template_queries.redraft(db, accounts.org_id, row.template_id, written, now)
        asked = [
            await template_queries.ask(db, accounts.org_id, row.template_id, now, now, wanted=wanted)
            for wanted in (mine, theirs)
        ]
    assert [one and one.template.draft for one in asked] == [None, theirs]


async def test_a_draft_whose_name_somebody_else_used_becomes_metas_and_keeps_its_words(accounts: Accounts) -> None:
    await a_draft(accounts)
    await accounts.template(body="Their {{1}} words.")
    await accounts.read()
    [(status, body, draft)] = await accounts.rows("status, body, draft")
    assert (status, body, draft["components"]) == ("APPROVED", "Their {{1}} words.", TEXT)


@pytest.mark.parametrize("asked", [timedelta(seconds=1), 2 * LOST_AFTER])
async def test_a_submission_without_an_answer_is_settled_by_the_list(accounts: Accounts, asked: timedelta) -> None:
    await a_draft(accounts, asked)
    await accounts.read()
    [(status, is_asked)] = await accounts.rows("status, asked_at is not null")
    assert (status, is_asked) == ("DRAFT", asked < LOST_AFTER)
    await accounts.template(body="Your car is ready.", status="PENDING")
    await accounts.read()
    assert await accounts.rows("status, asked_at, draft, meta_id is not null") == [("PENDING", None, None, True)]


async def test_history_is_forgotten_after_two_years(accounts: Accounts) -> None:
    await accounts.template()
    await accounts.read()
    await accounts.execute("update template_history set at = now() - interval '731 days'")
    await accounts.sync.forget()
    assert await accounts.history() == []


async def test_an_account_without_any_token_says_so(accounts: Accounts, sandbox_url: str) -> None:
    async with open_template_graph(base_url=sandbox_url, version="v26.0", timeout_seconds=5) as graph:
        accounts.sync = TemplateSync(accounts.pool, graph, token="", period=timedelta(hours=1))
        await accounts.read()
    assert await accounts.state("error") == ("no_token",)


async def test_an_account_without_numbers_is_read_no_more(accounts: Accounts) -> None:
    await accounts.sync.seed()
    await accounts.execute("update whatsapp_numbers set org_id = null where org_id = $1", accounts.org_id)
    await accounts.sync.seed()
    async with accounts.pool.acquire() as db:
        assert await db.fetchval("select count(*) from template_syncs") == 0
