"""Templates through the API: written, held against Meta's limits, submitted, edited, deleted, and never made twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.sandbox.client import SandboxClient
from tests.support import world
from tests.support.form_browser import token_of
from tests.support.garage_of_templates import BODY, NEW, OTHER, Garage
from tests.support.inbox import ADVISOR, RunningInbox, an_inbox_of_its_own
from tests.support.sandbox import GRAPH_TOKEN


@pytest_asyncio.fixture(scope="module")
async def served(
    postgres_dsn: str,
    database_template: str,
    kafka_admin: AIOKafkaAdminClient,
    kafka_bootstrap: str,
    sandbox_url: str,
) -> AsyncIterator[RunningInbox]:
    settings = {"graph_base_url": sandbox_url, "whatsapp_token": GRAPH_TOKEN}
    async with an_inbox_of_its_own(postgres_dsn, database_template, kafka_admin, kafka_bootstrap, **settings) as made:
        yield made


@pytest_asyncio.fixture
async def garage(served: RunningInbox, sandbox: SandboxClient) -> Garage:
    await sandbox.configure(webhooks=False, template_review="hold")
    org_id, number = f"org-{uuid4().hex[:12]}", str(uuid4().int)[:15]
    waba_id = str(uuid4().int)[:15]
    async with served.pool.acquire() as db:
        await world.an_org(db, org_id, number, waba=waba_id, sms_number=None, portal_host=None)
    await sandbox.number(number, waba_id=waba_id)
    return Garage(served, sandbox, org_id, waba_id, served.api(org_id))


async def test_a_template_goes_from_draft_to_rejected_to_edited_to_approved(garage: Garage) -> None:
    drafted = await garage.create(submit=False)
    assert (drafted.status_code, drafted.json()["status"]) == (201, "DRAFT")
    template_id = drafted.json()["template_id"]
    assert await garage.at_meta() == []
    submitted = await garage.api.patch(f"/v1/templates/{template_id}", json={})
    assert (submitted.status_code, submitted.json()["status"]) == (200, "PENDING")
    await garage.sandbox.template_decided(
        garage.waba_id, "car_ready", "en_GB", event="REJECTED", reason="INVALID_FORMAT"
    )
    await garage.becomes(template_id, "REJECTED", rejected_reason="INVALID_FORMAT")
    edited = await garage.api.patch(f"/v1/templates/{template_id}", json={"components": [OTHER]})
    assert (edited.status_code, edited.json()["status"]) == (200, "PENDING")
    assert (edited.json()["components"], edited.json()["rejected_reason"]) == ([OTHER], None)
    await garage.sandbox.template_decided(garage.waba_id, "car_ready", "en_GB", event="APPROVED")
    approved = await garage.becomes(template_id, "APPROVED", rejected_reason=None)
    assert approved["synced_at"] is not None
    events = [(one["event"], one["word"]) for one in reversed(approved["history"])]
    assert events[:2] == [("drafted", None), ("submitted", None)]
    assert [word for event, word in events if event == "status"] == ["PENDING", "REJECTED", "PENDING", "APPROVED"]
    assert await garage.fetch(
        "select action, detail ->> 'user_id' from audit_log where org_id = $1 order by audit_id"
    ) == [
        ("template.drafted", "advisor-1"),
        ("template.submitted", "advisor-1"),
        ("template.edited", "advisor-1"),
    ]


async def test_a_limit_is_named_and_meta_is_not_asked(garage: Garage) -> None:
    answer = await garage.create(components=[{"type": "BODY", "text": "{{name}} is the first word here."}])
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert {fault["field"] for fault in answer.json()["errors"]} == {"components.0.text", "components.0.example"}
    assert await garage.at_meta() == []
    assert (await garage.api.get("/v1/templates")).json()["items"] == []


async def test_metas_own_no_keeps_the_draft_and_its_sentence(garage: Garage) -> None:
    await garage.sandbox.fault("meta", "fail", endpoint="create", code=100, calls=1)
    answer = await garage.create()
    assert answer.status_code == 422
    assert "100" in answer.json()["detail"]
    [item] = (await garage.api.get("/v1/templates")).json()["items"]
    assert (item["status"], item["refusal"]["code"], item["submission"]) == ("DRAFT", "100", "none")
    assert item["refusal"]["sentence"]
    again = await garage.api.patch(f"/v1/templates/{item['template_id']}", json={})
    assert (again.json()["status"], again.json()["refusal"]) == ("PENDING", None)


@pytest.mark.parametrize("mode", ["drop_answer", "page"])
async def test_a_lost_answer_makes_no_second_template(garage: Garage, mode: Any) -> None:
    """Meta made it; the answer got lost. Whoever asks again gets the one that was made."""
    await garage.sandbox.fault("meta", mode, endpoint="create", sent=True, calls=1)
    answer = await garage.create()
    assert (answer.status_code, answer.json()["submission"]) == (202, "unknown")
    template_id = answer.json()["template_id"]
    found = await garage.becomes(template_id, "PENDING", submission="none")
    assert found["components"] == [BODY]
    assert len([call for call in await garage.at_meta() if call["endpoint"] == "create"]) == 1


async def test_a_lost_submission_that_meta_never_had_can_be_made_again(garage: Garage) -> None:
    await garage.sandbox.fault("meta", "reset", endpoint="create", calls=1)
    template_id = (await garage.create()).json()["template_id"]
    busy = await garage.api.patch(f"/v1/templates/{template_id}", json={"components": [OTHER]})
    assert busy.status_code == 409
    await garage.execute(
        "update templates set asked_at = asked_at - interval '2 minutes' where org_id = $1", garage.org_id
    )
    await garage.becomes(template_id, "DRAFT", submission="none")
    again = await garage.api.patch(f"/v1/templates/{template_id}", json={})
    assert (again.status_code, again.json()["status"]) == (200, "PENDING")


async def test_a_lost_submission_is_looked_for_before_meta_is_asked_again(garage: Garage) -> None:
    await garage.sandbox.fault("meta", "drop_answer", endpoint="create", calls=1)
    await garage.execute(  # no sync settles it meanwhile
        "insert into template_syncs (org_id, waba_id, due_at, leased_until)"
        " values ($1, $2, now(), now() + interval '1 hour')"
        " on conflict (org_id, waba_id) do update set leased_until = excluded.leased_until",
        *(garage.org_id, garage.waba_id),
    )
    template_id = (await garage.create()).json()["template_id"]
    await garage.execute(
        "update templates set asked_at = asked_at - interval '2 minutes' where org_id = $1 and asked_at is not null",
        garage.org_id,
    )
    again = await garage.api.patch(f"/v1/templates/{template_id}", json={})
    assert (again.status_code, again.json()["status"], again.json()["submission"]) == (200, "PENDING", "none")
    assert len([call for call in await garage.at_meta() if call["endpoint"] == "create"]) == 1


async def test_a_deleted_template_stays_readable_and_its_name_is_free_after_thirty_days(garage: Garage) -> None:
    template_id = (await garage.create()).json()["template_id"]
    await garage.sandbox.template_decided(garage.waba_id, "car_ready", "en_GB", event="APPROVED")
    await garage.becomes(template_id, "APPROVED")
    for _ in range(2):  # the second finds it gone
        assert (await garage.api.delete(f"/v1/templates/{template_id}")).status_code == 204
    gone = await garage.item(template_id)
    assert (gone["status"], gone["components"]) == ("DELETED", [BODY])
    taken = await garage.create()
    assert [fault["field"] for fault in taken.json()["errors"]] == ["name"]
    await garage.execute("update templates set status_at = now() - interval '31 days' where org_id = $1", garage.org_id)
    again = await garage.create(submit=False)
    assert (again.status_code, again.json()["template_id"]) == (201, template_id)
    assert (await garage.api.delete(f"/v1/templates/{template_id}")).status_code == 204
    assert (await garage.item(template_id))["status"] == "DELETED"


async def test_a_draft_is_deleted_without_meta(garage: Garage) -> None:
    template_id = (await garage.create(submit=False)).json()["template_id"]
    assert (await garage.api.delete(f"/v1/templates/{template_id}")).status_code == 204
    assert (await garage.api.get(f"/v1/templates/{template_id}")).status_code == 404
    assert await garage.at_meta() == []


async def test_an_approved_template_is_edited_once_a_day_and_keeps_its_category(garage: Garage) -> None:
    template_id = (await garage.create()).json()["template_id"]
    await garage.sandbox.template_decided(garage.waba_id, "car_ready", "en_GB", event="APPROVED")
    await garage.becomes(template_id, "APPROVED")
    other = await garage.api.patch(f"/v1/templates/{template_id}", json={"category": "MARKETING"})
    assert [fault["field"] for fault in other.json()["errors"]] == ["category"]
    assert (await garage.api.patch(f"/v1/templates/{template_id}", json={"components": [OTHER]})).status_code == 200
    pending = await garage.api.patch(f"/v1/templates/{template_id}", json={"components": [BODY]})
    assert [fault["field"] for fault in pending.json()["errors"]] == ["status"]
    await garage.sandbox.template_decided(garage.waba_id, "car_ready", "en_GB", event="APPROVED")
    await garage.becomes(template_id, "APPROVED")
    again = await garage.api.patch(f"/v1/templates/{template_id}", json={"components": [BODY]})
    assert [fault["field"] for fault in again.json()["errors"]] == ["components"]


_ASKED = "select template_id from templates where org_id = $1 and asked_at is not null"


async def test_a_webhook_that_overtakes_metas_answer_to_an_edit_stays(garage: Garage) -> None:
    template_id = (await garage.create()).json()["template_id"]
    await garage.sandbox.template_decided(garage.waba_id, "car_ready", "en_GB", event="APPROVED")
    await garage.becomes(template_id, "APPROVED")
    await garage.execute(  # no sync settles it meanwhile
        "update template_syncs set leased_until = now() + interval '1 hour' where org_id = $1", garage.org_id
    )
    await garage.sandbox.fault("meta", "slow", endpoint="edit", seconds=600, calls=1)
    editing = asyncio.create_task(garage.api.patch(f"/v1/templates/{template_id}", json={"components": [OTHER]}))
    while not await garage.fetch(_ASKED):  # noqa: ASYNC110 -- another task asks
        await asyncio.sleep(0.02)
    await garage.execute(
        "update templates set status = 'REJECTED', rejected_reason = 'SCAM', status_at = now() where org_id = $1",
        garage.org_id,
    )
    await garage.sandbox.clear_faults()
    answer = (await editing).json()
    assert (answer["status"], answer["rejected_reason"], answer["components"]) == ("REJECTED", "SCAM", [OTHER])


async def test_a_draft_that_is_being_submitted_is_not_deleted(garage: Garage) -> None:
    template_id = (await garage.create(submit=False)).json()["template_id"]
    await garage.execute("update templates set asked_at = now() where org_id = $1", garage.org_id)
    assert (await garage.api.delete(f"/v1/templates/{template_id}")).status_code == 409
    assert (await garage.item(template_id))["status"] == "DRAFT"


async def test_a_name_that_a_load_file_alone_had_is_free_at_once(garage: Garage) -> None:
    async with garage.inbox.pool.acquire() as db:
        await world.a_template(db, garage.org_id, garage.waba_id)
    await garage.execute(
        "update templates set status_at = now() - interval '1 hour', created_at = now() - interval '1 day'"
        " where org_id = $1",
        garage.org_id,
    )
    [(template_id,)] = await garage.fetch("select template_id from templates where org_id = $1")
    await garage.becomes(template_id, "DELETED")
    assert (await garage.create()).json()["status"] == "PENDING"


async def test_a_name_is_one_template_in_a_language_and_the_account_must_be_the_organisations(garage: Garage) -> None:
    await garage.create(submit=False)
    again = await garage.create(submit=False)
    assert [fault["field"] for fault in again.json()["errors"]] == ["name"]
    assert (await garage.create(submit=False, language="de")).status_code == 201
    foreign = await garage.create(submit=False, name="other", waba_id="206400000000099")
    assert [fault["field"] for fault in foreign.json()["errors"]] == ["waba_id"]
    async with garage.inbox.pool.acquire() as db:
        second = str(uuid4().int)[:15]
        await world.a_number(db, garage.org_id, second, waba=second, display_number="+447700900124")
    unnamed = await garage.create(submit=False, name="other")
    assert [fault["field"] for fault in unnamed.json()["errors"]] == ["waba_id"]


async def test_two_organisations_of_one_waba_have_a_copy_each_under_ids_of_their_own(garage: Garage) -> None:
    other = f"org-{uuid4().hex[:12]}"
    async with garage.inbox.pool.acquire() as db:
        await world.an_org(db, other, str(uuid4().int)[:15], waba=garage.waba_id, sms_number=None, portal_host=None)
    ours = (await garage.create()).json()["template_id"]
    api = garage.inbox.api(other)
    assert (await api.post("/v1/templates/sync")).status_code == 202
    while not (theirs := (await api.get("/v1/templates")).json()["items"]):  # noqa: ASYNC110 -- another task reads
        await asyncio.sleep(0.05)
    assert (theirs[0]["name"], theirs[0]["template_id"] == ours) == ("car_ready", False)
    for method in ("GET", "PATCH", "DELETE"):
        for template_id in (ours, uuid4()):
            answer = await api.request(method, f"/v1/templates/{template_id}", json={} if method == "PATCH" else None)
            assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")


async def test_the_list_goes_on_by_its_cursor_which_counts_for_its_filter_alone(garage: Garage) -> None:
    for number in range(5):
        await garage.create(submit=False, name=f"template_{number}")
    names: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await garage.api.get("/v1/templates", params={"limit": "2"} | cursor)).json()
        names += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert names == [f"template_{number}" for number in range(5)]
    wrong = await garage.api.get("/v1/templates", params={"status": "DRAFT"} | cursor)
    assert [fault["field"] for fault in wrong.json()["errors"]] == ["cursor"]


@pytest.mark.parametrize("capabilities", [ADVISOR, ("messages.view",)])
async def test_who_may_not_manage_templates_reads_them_and_changes_none(
    garage: Garage, capabilities: tuple[str, ...]
) -> None:
    template_id = (await garage.create(submit=False)).json()["template_id"]
    api = garage.inbox.api(garage.org_id, capabilities)
    assert (await api.get("/v1/templates")).status_code == 200
    assert (await api.get(f"/v1/templates/{template_id}")).status_code == 200
    for method, path in (
        ("POST", "/v1/templates"),
        ("POST", "/v1/templates/sync"),
        ("PATCH", f"/v1/templates/{template_id}"),
        ("DELETE", f"/v1/templates/{template_id}"),
    ):
        assert (await api.request(method, path, json={})).status_code == 403


async def test_an_account_that_meta_refuses_keeps_the_draft_and_says_so(garage: Garage) -> None:
    await garage.sandbox.fault("meta", "fail", endpoint="create", code=190, calls=1)
    refused = await garage.create()
    assert refused.status_code == 502
    await garage.sandbox.fault("meta", "throttle", endpoint="create", calls=1)
    [item] = (await garage.api.get("/v1/templates")).json()["items"]
    later = await garage.api.patch(f"/v1/templates/{item['template_id']}", json={})
    assert (later.status_code, later.headers["retry-after"]) == (503, "2")
    assert (await garage.item(item["template_id"]))["submission"] == "none"


async def test_an_id_that_is_no_path_reaches_no_other_endpoint(garage: Garage) -> None:
    """Meta's ids come from Meta, and from a database that somebody may have written to."""
    await garage.create(submit=False)
    with pytest.raises(Exception, match="templates_digits"):
        await garage.execute("update templates set meta_id = '1/../2' where org_id = $1", garage.org_id)


@pytest.mark.parametrize(
    "body",
    [
        {"components": "no list"},
        {"components": [BODY], "actor": {"kind": "ai"}},
        {"components": [{"type": "BODY", "text": "x" * 70_000}]},
        {"components": [BODY], "waba_id": "../me"},
        {"components": [BODY], "name": 7},
    ],
)
async def test_what_is_no_template_is_refused_by_its_field(garage: Garage, body: dict[str, Any]) -> None:
    answer = await garage.api.post("/v1/templates", json=NEW | body)
    assert answer.status_code == 422
    assert answer.json()["errors"]


async def test_a_text_that_no_database_can_store_is_stored_without_what_it_cannot(garage: Garage) -> None:
    answer = await garage.create(submit=False, components=[{"type": "BODY", "text": "a\0b"}])
    assert (answer.status_code, answer.json()["components"][0]["text"]) == (201, "a\ufffdb")
    staff = await garage.inbox.staff(garage.org_id)
    fields = {"token": token_of(await staff.get("/templates/new")), "name": "car_done", "body": "a\0b"}
    saved = await staff.post("/templates/new", fields | {"action": "draft"})
    assert saved.status_code == 303
    assert "a\ufffdb" in (await staff.get(saved.headers["location"])).text


async def test_pages_write_refuse_submit_and_delete_without_scripts(garage: Garage) -> None:
    staff = await garage.inbox.staff(garage.org_id)
    await garage.execute(
        "insert into rate_card (channel, category, country, currency, price, valid_from)"
        " values ('whatsapp', 'utility', '*', 'GBP', 0.0159, '2026-01-01') on conflict do nothing"
    )
    page = await staff.get("/templates/new")
    assert "About something the customer has with you. About £0.0159." in page.text
    assert "Offers and news; only with consent.</span>" in page.text
    fields = {"token": token_of(page), "name": "car_ready", "language": "en_GB", "category": "UTILITY"}
    wrong = fields | {"body": "{{name}} is <b>first</b> here, and that is wrong.", "action": "submit"}
    refused = await staff.post("/templates/new", wrong)
    assert refused.status_code == 422
    assert "A placeholder may not be the first or the last thing in the text." in refused.text
    assert "is &lt;b&gt;first&lt;/b&gt; here" in refused.text
    assert 'name="example.body.name"' in refused.text
    right = fields | {"body": "Hi {{name}}, your car is ready now.", "example.body.name": "Kim", "quick.0": "Thanks"}
    saved = await staff.post("/templates/new", right | {"action": "draft"})
    assert saved.status_code == 303
    path = saved.headers["location"]
    assert "Draft" in (await staff.get(path)).text
    submitted = await staff.post(path, right | {"action": "submit"})
    assert (submitted.status_code, submitted.headers["location"]) == (303, path)
    assert "In review" in (await staff.get(path)).text
    [call] = await garage.at_meta()
    assert call["body"]["components"] == [
        BODY,
        {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Thanks"}]},
    ]
    listed = await staff.get("/templates?q=car&status=PENDING")
    assert "Car ready" in listed.text
    assert "Car ready" not in (await staff.get("/templates?status=APPROVED")).text
    gone = await staff.post(f"{path}/delete", {"token": fields["token"]})
    assert (gone.status_code, gone.headers["location"]) == (303, "/templates")
    assert "Meta lists it no more" in (await staff.get(path)).text


async def test_the_address_of_a_form_that_was_answered_leads_back_to_its_page(garage: Garage) -> None:
    template_id = (await garage.create(submit=False)).json()["template_id"]
    staff = await garage.inbox.staff(garage.org_id)
    for action, page in (("sync", "/templates"), (f"{template_id}/delete", f"/templates/{template_id}")):
        led = await staff.get(f"/templates/{action}")
        assert (led.status_code, led.headers["location"]) == (303, page)
        assert (await staff.get(page)).status_code == 200


async def test_the_text_of_a_template_whose_form_came_after_the_end_of_the_session_stands_on_the_page_that_says_so(
    garage: Garage,
) -> None:
    staff = await garage.inbox.staff(garage.org_id)
    form = {"token": token_of(await staff.get("/templates/new")), "name": "late", "language": "en_GB"}
    await staff.post("/logout", {"token": form["token"]})
    late = await staff.post("/templates/new", form | {"body": "Hi {{name}}, a <long> text.", "action": "draft"})
    assert late.status_code == 401
    assert "\nHi {{name}}, a &lt;long&gt; text.</textarea>" in late.text


async def test_pages_of_who_may_not_manage_say_so_and_take_nothing(garage: Garage) -> None:
    template_id = (await garage.create(submit=False)).json()["template_id"]
    staff = await garage.inbox.staff(garage.org_id, ADVISOR)
    page = await staff.get(f"/templates/{template_id}")
    assert "Your role may read templates and not change them." in page.text
    assert "Submit to Meta" not in page.text
    refused = await staff.get("/templates/new", **{"Accept-Language": "de-DE"})
    assert (refused.status_code, "Das dürfen Sie nicht" in refused.text) == (403, True)
    assert "is needed" not in refused.text, "every word is in the page's language"
    for path in (f"/templates/{template_id}", f"/templates/{template_id}/delete", "/templates/sync", "/templates/new"):
        answer = await staff.post(path, {"token": token_of(await staff.get("/templates")), "action": "submit"})
        assert answer.status_code == 403
    other = await garage.inbox.staff(await garage.inbox.an_org())
    assert (await other.get(f"/templates/{template_id}")).status_code == 404
