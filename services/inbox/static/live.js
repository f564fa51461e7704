// The stream of a page that is visible: what changes in the organisation. Other modules hear of it on `document`:
// `inbox:conversation`, `inbox:message` and `inbox:update` with the event's data, `inbox:reset` when something was missed.

import { clock, now, say } from "./clock.js";

const [LOST, SILENT] = [5000, 40_000]; // the server says something at least every 15 seconds
const line = document.getElementById("live");
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
let [stream, last, heard, since] = [null, line?.dataset.last || null, 0, null];

function show() {
  const lost = since !== null && now() - since >= LOST;
  const text = lost ? say("lost", { time: clock(new Date(since)) }) : say("live");
  line.hidden = false;
  line.classList.toggle("away", lost);
  if (line.textContent !== text) line.textContent = text;
}

function tell(block) {
  const parts = Object.fromEntries([...block.matchAll(/^(\w+): ?([^\n]*)/gm)].map((found) => found.slice(1)));
  if (parts.event) {
    const detail = parts.data ? JSON.parse(parts.data) : null;
    document.dispatchEvent(new CustomEvent(`inbox:${parts.event}`, { detail }));
  }
  if (parts.id !== undefined) last = parts.id;
}

async function read(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard = now();
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    blocks.forEach(tell);
  }
}

async function listen() {
  for (let pause = 1000; !document.hidden; pause = Math.min(pause * 2, 30_000)) {
    [stream, heard] = [new AbortController(), now()];
    try {
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const answer = await fetch("/inbox/events", { headers, signal: stream.signal, cache: "no-store" });
      if (answer.status === 401) return location.reload(); // the session has ended: the page leads to the sign-in
      if (answer.ok) {
        [since, pause] = [null, 500];
        show();
        await read(answer);
      }
    } catch { /* the connection is lost, or was given up below */ }
    if (document.hidden) break;
    since ??= now();
    show();
    await wait(pause * (0.75 + Math.random() / 2));
  }
  stream = null;
}

export function startLive() {
  addEventListener("online", () => stream?.abort());
  document.addEventListener("visibilitychange", () => document.hidden ? stream?.abort() : stream ?? listen());
  setInterval(() => {
    if (since !== null) show();
    else if (now() - heard > SILENT) stream?.abort();
  }, 1000);
  listen();
}
