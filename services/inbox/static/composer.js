// The composer: one form, which the server writes anew after every action and whenever its conversation changes.
// What a person types meanwhile, the caret and the focus stay. Without this script the same form posts and reloads.
// It says `inbox:sent` when something was sent, and `inbox:composed` when the form was written anew.

import { clock, now, writeTimes } from "./clock.js";
import { onward } from "./list.js";

const $ = (id) => document.getElementById(id);
const KEPT = /^(text|via|template|shown|tl|picking|reply_to|edits|f\..+)$/;
const PAUSE = 3000;
let form = $("composer");
let served = [];
let shut = 0;
let asked = 0;
let waiting = 0;
let [renewing, again, isOut] = [false, false, false];

const isForm = () => form?.tagName === "FORM";
const said = (fields, name) => (fields.get(name) ?? "").replaceAll("\r\n", "\n");
const say = (words) => { if (words && $("announce")) $("announce").textContent = words; };
const read = async (answer) => new DOMParser().parseFromString(await answer.text(), "text/html");

// One question at a time, and its answer counts: a stream of events cannot put it off for ever.
async function renew() {
  again = true;
  if (renewing) return;
  renewing = true;
  while (again) {
    await new Promise((done) => setTimeout(done, 100));
    again = false;
    if (isForm()) await refresh();
  }
  renewing = false;
}

function begin() {
  served = [...form.children].map(bare);
  clearTimeout(shut);
  const left = Date.parse(form.dataset.closes) - now();
  if (!Number.isNaN(left)) shut = setTimeout(close, left > 0 ? Math.min(left + 50, 2 ** 31 - 1) : PAUSE);
  count();
}

// The window closes by the server's clock. Where the server cannot be asked, nothing can be sent until it is.
async function close() {
  if (await refresh() || !form.dataset.closes) return;
  $("send")?.setAttribute("aria-disabled", "true");
  say(form.dataset.closed);
  shut = setTimeout(close, PAUSE);
}

async function post(url, fields) {
  const ask = (body) => fetch(url, { method: "POST", body, headers: { "X-Part": "composer" }, cache: "no-store" });
  let answer = await ask(new URLSearchParams(fields));
  if (answer.status === 403) { // the session was renewed in another tab: its token stands in a fresh page
    const page = await read(await fetch(location.href, { cache: "no-store" }));
    fields.set("token", page.querySelector("#composer [name=token]")?.value ?? "");
    answer = await ask(new URLSearchParams(fields));
  }
  if (answer.status === 401) location.reload();
  return { ok: answer.ok, id: answer.headers.get("X-Message"), next: (await read(answer)).getElementById("composer") };
}

async function refresh(fields = new FormData(form)) {
  const mine = (asked += 1);
  try {
    const { next } = await post(form.action, fields);
    if (next && mine === asked) swap(next, fields);
    return Boolean(next);
  } catch {
    return false;
  }
}

// A part as the server wrote it, whatever stands in its text.
function bare(part) {
  const copy = part.cloneNode(true);
  for (const text of copy.querySelectorAll("textarea")) text.textContent = "";
  return copy.outerHTML;
}

// Parts that changed take the place of the old ones. A field that was changed since `fields` were sent keeps its value.
function swap(next, fields) {
  if (!next) return complain();
  const before = { ...form.dataset };
  const focused = form.contains(document.activeElement) ? document.activeElement : null;
  const caret = focused?.matches("textarea, [type=search], [type=text], :not([type])") ? [focused.selectionStart, focused.selectionEnd] : null;
  const parts = [...next.children];
  const isSame = parts.length === served.length && parts.every((one, n) => one.id === form.children[n].id && one.tagName === form.children[n].tagName);
  for (const old of form.querySelectorAll("textarea, input:not([type=hidden], [type=radio])")) {
    const same = [...next.querySelectorAll("[name]")].find((one) => one.name === old.name);
    if (same && old.value !== said(fields, old.name)) same.value = old.value;
  }
  const fresh = parts.map(bare);
  if (isSame) {
    for (const [n, old] of [...form.children].entries()) if (fresh[n] !== served[n]) old.replaceWith(parts[n]);
    const text = next.querySelector("#text");
    if (text && $("text").value !== text.value) $("text").value = text.value;
    for (const { name, value } of next.attributes) form.setAttribute(name, value);
    if (!next.dataset.closes) delete form.dataset.closes;
  } else {
    const place = document.importNode(next, true);
    for (const one of next.querySelectorAll("textarea, input:not([type=hidden], [type=radio])")) place.querySelector(`[name="${one.name}"]`).value = one.value;
    form.replaceWith(place);
    form = place;
  }
  writeTimes(form);
  if (focused?.id && document.activeElement !== focused) {
    const same = $(focused.id) || $("text") || $("tq");
    same?.focus({ preventScroll: true });
    if (caret && same?.id === focused.id) same.setSelectionRange(...caret);
  }
  if (before.window !== form.dataset.window) {
    // what helps with a failed message depends on the window: the thread reads them again
    for (const { id } of document.querySelectorAll(".msg.failed")) {
      document.dispatchEvent(new CustomEvent("inbox:update", { detail: { conversation_id: form.dataset.conversation, message_id: id.slice(2) } }));
    }
    say(form.dataset.window === "expired" ? form.dataset.closed : before.window === "closing" ? "" : form.dataset.opened);
  }
  say($("colleague")?.textContent.trim());
  if ($("take-over")) $("take-over").hidden = Boolean($("held"));
  if (!isForm()) return keep();
  begin();
  if (before.conversation !== form.dataset.conversation) { keep(before.key); join(before.conversation, form.dataset.conversation); }
  keep();
  document.dispatchEvent(new CustomEvent("inbox:composed"));
}

document.addEventListener("submit", async (event) => {
  if (event.target.getAttribute("action") === "/logout") return forget();
  if (event.target !== form) return;
  event.preventDefault();
  const button = event.submitter;
  const url = button?.getAttribute("formaction") || form.action;
  if (button?.getAttribute("aria-disabled") === "true") return;
  const fields = new FormData(form, button);
  const then = onward();
  asked += 1; // an answer to an earlier question is out of date
  if (url.endsWith("/messages")) return send(url, fields, then);
  button?.setAttribute("aria-disabled", "true");
  const answer = await post(url, fields).catch(() => null);
  button?.removeAttribute("aria-disabled");
  swap(answer?.next, fields);
  if (answer?.ok && url !== form.action) document.dispatchEvent(new CustomEvent("inbox:sent"));
  if (answer?.id && then && url.endsWith("/template")) return location.assign(then.href);
  (form.querySelector("[aria-invalid]") || $("discard-yes"))?.focus();
});

function complain() {
  $("refused")?.remove();
  form.prepend(Object.assign(document.createElement("p"), { id: "refused", className: "note expired", role: "alert", textContent: form.dataset.away }));
  served = [];
}

// A text is in the thread at once, as pending. Where it was not taken it is back in the field.
async function send(url, fields, then) {
  const text = $("text").value;
  if (!text.trim()) return $("text").focus();
  const item = pending(text);
  $("text").value = "";
  count();
  const answer = await post(url, fields).catch(() => null);
  const since = $("text")?.value ?? "";
  if (!answer?.ok || $("m-" + answer.id)) item?.remove();
  else if (item) item.id = "m-" + answer.id;
  const isSent = answer?.ok && answer.next;
  fields.set("text", "");
  swap(answer?.next, fields);
  if ($("text") && !isSent) $("text").value = [text, since].filter(Boolean).join("\n");
  if (isSent) document.dispatchEvent(new CustomEvent("inbox:sent"));
  else $("text")?.focus();
  keep();
  count();
  if (isSent && then && !since) location.assign(then.href);
}

function pending(text) {
  const list = $("messages");
  const item = $("pending")?.content.firstElementChild.cloneNode(true);
  if (!list || !item) return null;
  item.querySelector(".said").textContent = text;
  item.querySelector(".by").textContent = $("via")?.selectedOptions[0]?.textContent || "";
  const at = new Date(now());
  Object.assign(item.querySelector("time"), { dateTime: at.toISOString(), textContent: clock(at) });
  list.append(item);
  list.parentElement.scrollTop = 0;
  return item;
}

document.addEventListener("input", ({ target }) => {
  if (!isForm() || target.form !== form) return;
  if (target.name?.startsWith("f.")) preview(target);
  keep();
  count();
  if (target.id === "tq" || target.name === "via" || (target.id === "text" && form.elements.via?.value === "sms")) {
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 100);
  }
  if (target.name === "template" || target.name === "tl") refresh();
});

function preview(field) {
  const isFull = Boolean(field.value.trim());
  for (const mark of form.querySelectorAll("mark")) {
    if ("f." + mark.dataset.for !== field.name) continue;
    mark.classList.toggle("gap", !isFull);
    mark.textContent = isFull ? field.value : field.labels[0].textContent;
  }
  if (!isFull) return;
  $(field.getAttribute("aria-describedby"))?.remove();
  for (const name of ["aria-invalid", "aria-describedby"]) field.removeAttribute(name);
}

function count() {
  const line = $("length");
  if (line) line.firstElementChild.textContent = [...$("text").value].length.toLocaleString(document.documentElement.lang);
}

// What is kept in this tab: half-written text, the chosen template and its fields. Of who was erased nothing is kept.
function keep(key = form.dataset.key) {
  if (isOut) return;
  const found = (isForm() ? [...new FormData(form)] : []).filter(([name, value]) => KEPT.test(name) && value);
  const isWorth = found.some(([name]) => /^(text|template|shown)$/.test(name));
  try {
    if (isWorth) sessionStorage.setItem(key, JSON.stringify(found));
    else sessionStorage.removeItem(key);
  } catch { /* storage may be switched off */ }
}

function restore() {
  try {
    const found = JSON.parse(sessionStorage.getItem(form.dataset.key));
    if (!found || $("text")?.value) return;
    const fields = new FormData(form);
    for (const [name, value] of found) fields.set(name, value);
    $("text").value = said(fields, "text");
    refresh(fields);
  } catch { /* as above */ }
}

// Threads are one now, and so are their drafts: in what is kept and, where one of them is open, in its field.
export function join(old, whole) {
  const [from, to] = [old, whole].map((id) => form?.dataset.key?.replace(form.dataset.conversation, id));
  try {
    const found = [to, from].flatMap((key) => JSON.parse(sessionStorage.getItem(key)) ?? []);
    const text = found.filter(([name]) => name === "text").map(([, one]) => one).join("\n");
    if (!found.length || !to) return;
    sessionStorage.removeItem(from);
    sessionStorage.setItem(to, JSON.stringify([["text", text], ...found.filter(([name]) => name !== "text")]));
    if (![old, whole].includes(form.dataset.conversation)) return;
    [form.dataset.key, form.dataset.conversation, $("text").value] = [to, whole, text];
  } catch { /* as above */ }
}

function forget() {
  isOut = true;
  for (const key of Object.keys(sessionStorage)) if (key.startsWith("draft:")) sessionStorage.removeItem(key);
}

export function startComposer() {
  if (!isForm()) return form && keep();
  begin();
  restore();
  for (const name of ["message", "conversation", "update", "reset", "flipped"]) {
    document.addEventListener(`inbox:${name}`, ({ detail }) => {
      if (isForm() && (detail?.conversation_id ?? form.dataset.conversation) === form.dataset.conversation) renew();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing || event.target.form !== form) return;
    event.preventDefault();
    if (event.target.id !== "text") form.requestSubmit($("send-template"));
    else if ($("send")) form.requestSubmit($("send"));
    else $("tq")?.focus();
  });
}
