// Nothing typed is lost, and what comes in moves nothing that is read or written. Pages work without it.
// The stream runs while the page is visible, so that only what a person can see counts as shown.

const $ = (id) => document.getElementById(id);
const language = document.documentElement.lang;
const clock = new Intl.DateTimeFormat(language, { timeStyle: "short" });
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

openByItself();
if ($("again")) setTimeout(() => location.replace($("again").href), 10000);
if ($("kept")) $("kept").hidden = !($("text").value ||= stored("unsent")); // of the session that ended
if ($("write")) conversation($("write"), $("messages"));

// A person who sees the page opens the link. Scanners and prerendering browsers do not.
function openByItself() {
  const form = document.querySelector("form[data-by-itself]");
  if (!form) return;
  $("by-itself").hidden = false;
  const go = () => {
    if (document.visibilityState !== "visible" || document.prerendering) return;
    document.removeEventListener("visibilitychange", go);
    requestAnimationFrame(() => requestAnimationFrame(() => form.submit()));
  };
  document.addEventListener("visibilitychange", go);
  document.addEventListener("prerenderingchange", go);
  go();
}

// what this tab keeps; storage may be switched off
function stored(key, text) {
  try {
    if (text === undefined) return sessionStorage.getItem(key) || "";
    sessionStorage.setItem(key, text);
  } catch { return ""; }
}

function conversation(form, list) {
  const log = list.parentElement;
  const all = (what, part = list) => [...part.querySelectorAll(what)];
  const field = $("text");
  const draft = "draft:" + form.dataset.key;
  let unseen = 0;

  function date(day) {
    const today = new Date();
    const days = Math.round((midnight(today) - midnight(day)) / 864e5);
    if (days === 0) return list.dataset.today;
    if (days === 1) return list.dataset.yesterday;
    const year = day.getFullYear() === today.getFullYear() ? {} : { year: "numeric" };
    return new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long", ...year }).format(day);
  }

  const midnight = (day) => Date.UTC(day.getFullYear(), day.getMonth(), day.getDate());

  function times() {
    const separators = all(".day");
    let before = null;
    for (const item of all(".msg")) {
      const time = item.querySelector("time");
      const at = new Date(time.dateTime);
      const written = clock.format(at);
      if (time.textContent !== written) time.textContent = written;
      const day = midnight(at);
      if (day !== before) {
        const separator = separators.shift() || $("separator").content.firstElementChild.cloneNode(true);
        const text = date(at);
        const heading = separator.firstElementChild;
        if (heading.textContent !== text) heading.textContent = text;
        if (item.previousElementSibling !== separator) item.before(separator);
      }
      before = day;
    }
    for (const rest of separators) rest.remove();
  }

  function change(work) {
    const atBottom = Math.abs(log.scrollTop) < 24;
    const height = log.scrollHeight;
    work();
    times();
    if (!atBottom) log.scrollTop -= log.scrollHeight - height;
    return atBottom;
  }

  function show(id, html, after) {
    const item = parsed(html).querySelector("li");
    if (!item) return;
    const known = $("m-" + id);
    if (known) {
      restate(known, item);
      times();
      return;
    }
    const newest = all(".msg:not(.pending)").pop();
    count(change(() => place(item, after === "" ? null : $("m-" + after) || newest)), [item]);
  }

  const restate = (known, item) => known.querySelector(".foot").replaceWith(item.querySelector(".foot"));

  // behind that message, or before all others; what was written here and is not stored yet stays last
  function place(item, before) {
    $("none")?.remove();
    if (item.classList.contains("out")) {
      const mine = all(".pending").find((one) => said(one) === said(item));
      if (mine) mine.remove();
      else if (failed && said(item) === failed.text.trim()) { // it was not lost
        if (field.value === failed.text) field.value = "";
        failed = null;
        keep();
        complain("");
      }
      $("coming")?.remove();
    }
    const first = list.querySelector(".msg");
    if (before) before.after(item);
    else if (first) first.before(item);
    else list.append(item);
  }

  function count(followed, items) {
    const theirs = items.filter((item) => !item.classList.contains("out")).length;
    if (followed || !theirs) return;
    unseen += theirs;
    $("unseen").textContent = unseen.toLocaleString(language);
    $("jump").hidden = false;
  }

  // what the page would have now; nothing moves or is lost
  async function refresh() {
    const answer = await fetch("/conversation", { signal: stream.signal, cache: "no-store" });
    if (!answer.ok && answer.status !== 401) throw new Error("not now");
    const page = parsed(await answer.text());
    const fresh = page.getElementById("messages");
    if (!fresh) return leave();
    const items = all(".msg", fresh);
    const joins = items.length && $(items[0].id);
    const added = [];
    const followed = change(() => {
      let gone = !joins;
      for (const item of all(".msg:not(.pending)")) {
        gone ||= item === joins;
        if (gone && !items.some((one) => one.id === item.id)) item.remove();
      }
      if (!joins) {
        list.querySelector(".earlier")?.remove();
        const earlier = fresh.querySelector(".earlier");
        if (earlier) list.prepend(earlier);
      }
      let before = null;
      for (const item of items) {
        const known = $(item.id);
        if (known) restate(known, item);
        else {
          place(item, before);
          added.push(item);
        }
        before = known || item;
      }
    });
    count(followed, added);
    last = fresh.dataset.last;
  }

  const parsed = (html) => new DOMParser().parseFromString(html, "text/html");

  const said = (item) => item.querySelector(".said")?.textContent.trim();

  function toBottom() {
    log.scrollTop = 0;
    unseen = 0;
    $("jump").hidden = true;
  }

  log.addEventListener("scroll", () => Math.abs(log.scrollTop) < 24 && toBottom(), { passive: true });
  $("jump").addEventListener("click", () => { toBottom(); field.focus(); });

  let stream = null;
  let last = list.dataset.last;
  let heard = 0;
  let since = null;
  const page = newId();

  function live(is) {
    since = is ? null : since || new Date();
    setTimeout(() => {
      const lost = since && new Date() - since >= 5000;
      if (lost && $("offline").hidden) {
        $("since").dateTime = since.toISOString();
        $("since").textContent = clock.format(since);
      }
      $("offline").hidden = !lost;
    }, is ? 0 : 5050);
  }

  async function read(answer) {
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard = Date.now();
      rest += decoder.decode(value, { stream: true });
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const parts = Object.fromEntries([...block.matchAll(/^(\w+): ?([^\n]*)/gm)].map((found) => found.slice(1)));
        if (parts.event === "message") {
          const { id, html, after } = JSON.parse(parts.data);
          show(id, html, after);
        }
        if (parts.event === "gone") change(() => $("m-" + JSON.parse(parts.data).id)?.remove());
        if (parts.event === "reset") await refresh();
        else if (parts.id !== undefined) last = parts.id;
      }
    }
  }

  async function listen() {
    for (let pause = 1000; document.visibilityState === "visible"; pause = Math.min(pause * 2, 30000)) {
      stream = new AbortController();
      heard = Date.now();
      try {
        const headers = { Accept: "text/event-stream" };
        if (last) headers["Last-Event-ID"] = last;
        const answer = await fetch(`${list.dataset.events}?page=${page}`, { headers, signal: stream.signal, cache: "no-store" });
        if (answer.status === 401) return leave(); // the session has ended
        if (answer.ok) {
          live(true);
          pause = 500;
          await read(answer);
        }
      } catch { /* the connection is lost, or was given up below */ }
      if (document.visibilityState !== "visible") break;
      live(false);
      await wait(pause * (0.75 + Math.random() / 2));
    }
    stream = null;
  }

  if (list.dataset.events) {
    const look = () => {
      if (document.visibilityState !== "visible") stream?.abort();
      else if (!stream) listen();
    };
    document.addEventListener("visibilitychange", look);
    addEventListener("online", () => stream?.abort());
    // the server says something at least every 30 seconds; a phone that slept has a connection that is none
    setInterval(() => { times(); if (stream && Date.now() - heard > 45000) stream.abort(); }, 15000);
    look();
  }

  // by the address: a reload would post again what this page is the answer to
  function leave() {
    keep("unsent");
    location.replace("/conversation");
  }

  // what has no answer yet is kept too: the tab may end
  const going = [];
  const keep = (key = draft) => stored(key, [...going, field.value].filter(Boolean).join("\n"));

  // a text that is sent again unchanged is the same message, whatever became of the first try
  let failed = null;

  function refuse(sentence, text) {
    field.value = field.value ? text + "\n" + field.value : text;
    keep();
    complain(sentence);
  }

  function complain(sentence) {
    $("error").lastElementChild.textContent = sentence;
    $("error").hidden = !sentence;
    field.setAttribute("aria-invalid", !!sentence);
    if (sentence) field.focus();
  }

  async function send(text) {
    const fields = new URLSearchParams(new FormData(form));
    fields.set("text", text);
    const item = $("pending").content.firstElementChild.cloneNode(true);
    item.classList.add("pending");
    item.querySelector(".said").textContent = text;
    item.querySelector("time").dateTime = new Date().toISOString();
    change(() => { $("none")?.remove(); list.append(item); });
    toBottom();
    let sentence = form.dataset.failed;
    try {
      const answer = await fetch(form.action, { method: "POST", body: fields, redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.ok) {
        item.querySelector(".sending").hidden = true;
        item.querySelector(".done").hidden = false;
        return;
      }
      // a refusal has its sentence beside the field; any other page has a heading
      const page = parsed(await answer.text());
      sentence = page.querySelector("#error span")?.textContent.trim() || page.querySelector(".gate h1")?.textContent || sentence;
      const token = page.querySelector("input[name=token]")?.value;
      if (page.getElementById("write") && token) form.elements.token.value = token;
    } catch {
      if (!item.isConnected) return; // it arrived
    } finally {
      going.splice(going.indexOf(text), 1);
      keep();
    }
    item.remove();
    failed = { text, id: fields.get("client_id") };
    refuse(sentence, text);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value;
    if (!text.trim()) return;
    if ([...text].length > 4096) return complain(form.dataset.tooLong);
    if (failed?.text === text) form.elements.client_id.value = failed.id;
    failed = null;
    complain("");
    field.value = "";
    going.push(text);
    keep();
    field.focus();
    send(text);
    form.elements.client_id.value = newId();
  });

  function newId() {
    return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  field.addEventListener("input", () => keep());
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) form.requestSubmit();
  });
  field.value ||= stored(draft);
  stored("unsent", "");
  times();
}
