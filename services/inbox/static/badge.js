// Window badges: they count down by the server's clock, and flip at their time without being told.

import { ago, left, now, number, say } from "./clock.js";

const SHUT = '<svg class="i" aria-hidden="true"><use href="#i-shut"/></svg>';
const DOT = '<svg class="i" aria-hidden="true"><use href="#i-dot"/></svg>';
const RING = '<svg class="ring" viewBox="0 0 20 20" aria-hidden="true"><circle class="rest" cx="10" cy="10" r="8"/>'
  + '<circle cx="10" cy="10" r="8" pathLength="100" transform="rotate(-90 10 10)"/></svg>';

// What a badge shows now: the server's word, moved on by the time that has passed since.
function stateOf({ state, closes }) {
  const rest = Date.parse(closes) - now();
  if (state !== "open" && state !== "closing") return state;
  if (rest <= 0) return "expired";
  return rest > number("soon") ? "open" : "closing";
}

function write(badge) {
  const state = stateOf(badge.dataset);
  const closes = new Date(badge.dataset.closes);
  const rest = closes - now();
  const before = ["open", "closing", "expired", "never"].find((one) => badge.classList.contains(one));
  const isLive = state === "open" || state === "closing";
  if (before !== state || !badge.firstElementChild || badge.firstElementChild.classList.contains("ring") !== isLive) {
    badge.classList.remove("open", "closing", "expired", "never");
    badge.classList.add(state);
    badge.querySelector("svg")?.remove();
    badge.insertAdjacentHTML("afterbegin", isLive ? RING : state === "expired" ? SHUT : DOT);
  }
  if (isLive) {
    const percent = Math.min(100, Math.max(0, Math.round((rest / number(state === "open" ? "length" : "soon")) * 100)));
    badge.querySelector("circle:last-of-type").setAttribute("stroke-dasharray", `${percent} 100`);
  }
  const line = badge.querySelector("svg + span");
  if (badge.classList.contains("mini")) {
    const text = isLive ? left(rest, true) : say(state);
    if (line.textContent !== text) line.textContent = text;
    const step = [900_000, 3_600_000].filter((one) => rest <= one).length; // the groups of "closing soon"
    const moved = Number(badge.dataset.step ?? step) !== step;
    badge.dataset.step = step;
    return before !== state || moved;
  }
  head(line, state, closes, rest);
  return before !== state;
}

function head(line, state, closes, rest) {
  const more = { open: say("closes", { left: left(rest) }), closing: say("left", { left: left(rest) }) };
  const text = more[state] ?? (state === "expired" && !Number.isNaN(closes.getTime()) ? ago(closes) : "");
  const name = Object.assign(document.createElement("b"), { textContent: say(state) });
  if (line.textContent !== name.textContent + (text && ` · ${text}`)) line.replaceChildren(name, text && ` · ${text}`);
}

// All badges of the page. The events say what flipped: nothing else may be told more often than that.
export function writeBadges(part = document) {
  for (const badge of part.querySelectorAll(".win[data-state]")) {
    if (!write(badge) || part !== document) continue;
    const name = badge.id === "window" ? "inbox:flipped" : "inbox:row-flipped";
    document.dispatchEvent(new CustomEvent(name, { detail: { state: stateOf(badge.dataset) } }));
  }
}

// The window as the server tells it.
export function setBadge(badge, { state, closes_at }) {
  badge.dataset.state = state;
  badge.dataset.closes = closes_at ?? "";
  writeBadges();
}

export function startBadges() {
  let minute = 0;
  const tick = () => {
    const soonest = Math.min(...[...document.querySelectorAll(".win[data-state]")]
      .filter((one) => one.matches(".open, .closing"))
      .map((one) => Date.parse(one.dataset.closes) - now())
      .map((rest) => (rest > number("soon") ? rest - number("soon") : rest)));
    if (soonest < 90_000 || now() - minute > 15_000) {
      minute = now();
      writeBadges();
    }
  };
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && writeBadges());
  writeBadges();
}
