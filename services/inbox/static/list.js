// The list: rows are written by the server. It never reorders under a pointer or a focus: it waits until they leave.

import { writeBadges } from "./badge.js";
import { writeTimes } from "./clock.js";

const PAUSE = 1000;
const rows = document.getElementById("rows");
let [asked, waiting, last, next] = [0, 0, 0, null];

const isUsed = () => rows.matches(":hover") || rows.contains(document.activeElement);

async function fetchList() {
  last = Date.now();
  const mine = (asked += 1);
  const current = document.getElementById("messages")?.dataset.conversation;
  const url = new URL(rows.dataset.list, location.href);
  if (current) url.searchParams.set("current", current);
  const answer = await fetch(url, { headers: { "X-Part": "list" }, cache: "no-store" });
  if (answer.status === 401) return location.reload();
  if (!answer.ok || mine !== asked) return answer.status < 500 || Promise.reject(answer);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  counters(page);
  next = page.getElementById("rows");
  (isUsed() ? update : replace)();
}

function counters(page) {
  const views = page.getElementById("views");
  const shown = document.getElementById("views");
  if (views && !shown.contains(document.activeElement)) shown.replaceChildren(...views.children);
}

// Every row in its place, with what is new in it.
function update() {
  for (const row of rows.children) {
    const fresh = row.id && next.querySelector(`#${CSS.escape(row.id)} > a`);
    if (!fresh) continue;
    row.firstElementChild.className = fresh.className;
    row.firstElementChild.replaceChildren(...[...fresh.childNodes].map((one) => one.cloneNode(true)));
  }
  dress();
}

function replace() {
  if (!next) return;
  rows.replaceChildren(...next.childNodes);
  next = null;
  dress();
}

function dress() {
  writeTimes(rows);
  writeBadges(rows);
  for (const row of rows.querySelectorAll("li[id^=c-]")) draft(row);
}

// A half-written text of this tab stands in the row (composer.js keeps it).
function draft(row) {
  let found = null;
  try {
    const key = Object.keys(sessionStorage).find((one) => one.startsWith("draft:") && one.endsWith(row.id.slice(2)));
    found = key && JSON.parse(sessionStorage.getItem(key)).find(([name]) => name === "text")?.[1];
  } catch { /* storage may be switched off */ }
  const said = row.querySelector("[data-said]");
  if (!found || !said) return;
  const mark = Object.assign(document.createElement("b"), { textContent: `${rows.dataset.draft} ` });
  said.replaceChildren(mark, found.slice(0, 120));
}

// Where a person goes who has answered here: in "closing soon" to what closes next, elsewhere nowhere.
export function onward() {
  if (!rows.dataset.list.includes("view=closing")) return null;
  const all = [...rows.querySelectorAll("a.row")];
  const at = all.findIndex((one) => one.matches("[aria-current]"));
  return all[at + 1] ?? all.find((_, n) => n !== at);
}

// Behind what the thread asks for, and then at most every second.
function soon() {
  if (waiting) return;
  waiting = setTimeout(() => {
    waiting = 0;
    fetchList().catch(() => setTimeout(soon, 3 * PAUSE)); // what is told is told once
  }, Math.max(100, last + PAUSE - Date.now()));
}

export function startList() {
  const leave = () => setTimeout(() => next && !isUsed() && replace());
  rows.addEventListener("pointerleave", leave);
  rows.addEventListener("focusout", leave);
  for (const name of ["conversation", "reset", "row-flipped", "sent"]) document.addEventListener(`inbox:${name}`, soon);
  const form = document.getElementById("search");
  for (const one of [form.elements.channel, form.elements.number]) one.addEventListener("change", () => form.requestSubmit());
  dress();
}
