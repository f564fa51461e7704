// The open conversation: what comes in is shown as the server writes it. At the bottom the view follows; further up it
// stays, and a button says how many messages are new.

import { setBadge } from "./badge.js";
import { dayOf, say, writeTimes } from "./clock.js";
import { join } from "./composer.js";

const $ = (id) => document.getElementById(id);
const list = $("messages");
const log = list?.parentElement;
const jump = $("jump");
const [BOTTOM, AGAIN] = [24, 3000]; // what is told is told once: what could not be fetched then is asked for again
const stale = new Set();
let [unseen, asking, again, renewing, late, drawing, told, whole] = [0, null, false, false, 0, 0, 0, false];

const isMine = (detail) => detail?.conversation_id === list.dataset.conversation;
const atBottom = () => Math.abs(log.scrollTop) < BOTTOM;
const newest = () => Math.max(0, ...[...list.querySelectorAll("[data-sequence]")].map((one) => Number(one.dataset.sequence)));

// The view keeps its place: the column is reversed, so its height below decides.
function change(work) {
  const followed = atBottom();
  const height = log.scrollHeight;
  work();
  days();
  writeTimes(list);
  if (!followed) log.scrollTop -= log.scrollHeight - height;
  return followed;
}

// One line before each day, in the zone of the browser.
function days() {
  const lines = [...list.querySelectorAll(".day")];
  let before = null;
  for (const item of list.querySelectorAll(".msg")) {
    const at = new Date(item.querySelector(".foot time")?.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const day = dayOf(at);
    if (day === before) continue;
    before = day;
    const line = lines.shift() ?? Object.assign(document.createElement("li"), { className: "day", innerHTML: "<h2></h2>" });
    if (line.firstElementChild.textContent !== day) line.firstElementChild.textContent = day;
    if (item.previousElementSibling !== line) item.before(line);
  }
  for (const rest of lines) rest.remove();
}

async function ask(path) {
  const answer = await fetch(`${list.dataset.path}/${path}`, { headers: { "X-Part": "thread" }, cache: "no-store" });
  if (answer.status === 401 || answer.status === 205) return location.reload();
  if (!answer.ok) return answer.status < 500 ? null : Promise.reject(answer);
  return new DOMParser().parseFromString(`<ol>${await answer.text()}</ol>`, "text/html").querySelector("ol");
}

// What is newer than the page, and after a reset all. One question at a time; what comes in meanwhile asks once more.
async function catchUp(reset) {
  whole ||= Boolean(reset);
  again = Boolean(asking);
  if (asking) return;
  const after = whole ? 0 : newest();
  whole = false;
  asking = ask(`news?after=${after}`).catch(() => { whole ||= !after; late ||= setTimeout(() => { late = 0; catchUp(); }, AGAIN); });
  const found = await asking;
  asking = null;
  if (found) add([...found.children]);
  if (again) catchUp();
}

// A message is asked for once, however much is told of it meanwhile, and the newest answer stands. It may be coming in.
async function renew({ detail }) {
  if (detail) stale.add(detail.message_id);
  if (renewing) return;
  renewing = true;
  for (const id of stale) {
    while (asking) await asking;
    stale.delete(id);
    const found = $(`m-${id}`) && await ask(`messages/${id}`).catch(() => { setTimeout(renew, AGAIN, { detail: { message_id: id } }); });
    if (found) add([...found.children]);
  }
  renewing = false;
}

// In its place: a focus stays, and only what changed is read out.
function restate(known, item) {
  const at = [...known.querySelectorAll("a, button")].indexOf(document.activeElement);
  const [old, parts] = [[...known.children], [...item.children]];
  writeTimes(item);
  for (const { name, value } of item.attributes) known.setAttribute(name, value);
  parts.forEach((one, n) => old[n]?.isEqualNode(one) || (old[n] ? old[n].replaceWith(one) : known.append(one)));
  for (const one of old.slice(parts.length)) one.remove();
  if (at >= 0) (known.querySelectorAll("a, button")[at] ?? log).focus({ preventScroll: true });
}

function add(items) {
  let fresh = 0;
  const followed = change(() => {
    $("none")?.remove();
    for (const item of items) {
      const known = item.id && $(item.id);
      if (known) restate(known, item);
      else if (!item.matches(".day")) {
        list.append(item);
        if (item.matches(".msg:not(.out)")) fresh += 1;
      }
    }
    // what this page sent stands last until the server has it
    for (const one of list.querySelectorAll(".msg:not([data-sequence])")) list.append(one);
  });
  if (followed) return read();
  if (!fresh) return;
  unseen += fresh;
  const words = jump.firstElementChild.dataset;
  jump.firstElementChild.textContent = unseen === 1 ? words.one : words.words.replace("{n}", unseen);
  jump.hidden = false;
}

function toBottom() {
  [log.scrollTop, unseen, jump.hidden] = [0, 0, true];
  read();
}

// What a person can see counts as read.
async function read() {
  const sequence = newest();
  if (document.visibilityState !== "visible" || !atBottom() || sequence <= told) return;
  told = sequence;
  try {
    const body = new URLSearchParams({ token: list.dataset.token });
    const answer = await fetch(`${list.dataset.path}/read`, { method: "POST", body, headers: { "X-Part": "thread" } });
    if (answer.ok) document.dispatchEvent(new CustomEvent("inbox:sent"));
  } catch { /* it is told with the next message */ }
}

// The customer beside the thread, at most once a second, and not under a focus.
function panel() {
  drawing ||= setTimeout(async () => {
    drawing = 0;
    const aside = $("details");
    const found = aside && !aside.contains(document.activeElement) && await ask("panel").catch(() => { setTimeout(panel, AGAIN); });
    if (!found) return;
    const isOpen = aside.querySelector("details")?.open;
    aside.replaceChildren(...found.childNodes);
    if (isOpen) aside.querySelector("details")?.setAttribute("open", "");
    writeTimes(aside);
  }, 1000);
}

function flipped({ state }) {
  const tell = (words) => { if (!document.querySelector("form#composer")) $("announce").textContent = words; }; // else it does
  if (state === "expired") {
    tell(say("shut"));
    change(() => {
      list.insertAdjacentHTML("beforeend", '<li class="event"><svg class="i" aria-hidden="true"><use href="#i-shut"/></svg><span></span></li>');
      list.lastElementChild.lastElementChild.textContent = say("shut");
    });
  } else if (state === "open") tell(say("openedAgain"));
}

// Two threads are one, and messages come between those that are here: the page is loaded anew, and its draft goes along.
function joined({ conversation_id: whole, merged = [] }) {
  for (const old of merged) join(old, whole);
  if (merged.length && [whole, ...merged].includes(list.dataset.conversation)) location.reload();
}

export function startThread() {
  if (!list || !("follow" in list.dataset)) return;
  document.addEventListener("inbox:conversation", ({ detail }) => {
    joined(detail);
    if (!isMine(detail)) return;
    if (detail.window) setBadge($("window"), detail.window);
    catchUp();
    panel();
  });
  document.addEventListener("inbox:message", renew);
  document.addEventListener("inbox:update", renew);
  for (const work of [catchUp, panel]) document.addEventListener("inbox:reset", work);
  document.addEventListener("inbox:flipped", ({ detail }) => flipped(detail));
  document.addEventListener("visibilitychange", read);
  log.addEventListener("scroll", () => atBottom() && toBottom(), { passive: true });
  jump.addEventListener("click", toBottom);
  change(() => {});
  read();
}
