// Times by the server's clock, in the zone and the language of the browser.

const words = document.getElementById("words")?.dataset ?? {};
const language = document.documentElement.lang;
const ahead = (Date.parse(words.now) || Date.now()) - Date.now();
const time = new Intl.DateTimeFormat(language, { timeStyle: "short" });
const weekday = new Intl.DateTimeFormat(language, { weekday: "short" });
const MINUTE = 60_000;
const DAY = 86_400_000;

export const now = () => Date.now() + ahead;
export const say = (name, values = {}) => (words[name] ?? "").replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
export const number = (name) => Number(words[name]) * 1000;
export const clock = (at) => time.format(at);

export function left(milliseconds, short) {
  const all = Math.max(0, Math.floor(milliseconds / MINUTE));
  const [hours, minutes] = [Math.floor(all / 60), all % 60];
  if (hours && !(short && hours >= 10)) return say("hm", { hours, minutes });
  if (hours) return say("h", { hours });
  return minutes ? say("m", { minutes }) : say("under");
}

export function moment(at) {
  const days = daysAgo(at);
  if (days === 0) return clock(at);
  if (Math.abs(days) < 7) return `${weekday.format(at)} ${clock(at)}`;
  const year = at.getFullYear() === new Date(now()).getFullYear() ? {} : { year: "numeric" };
  return new Intl.DateTimeFormat(language, { day: "numeric", month: "short", ...year }).format(at);
}

export function ago(at) {
  const passed = now() - at;
  if (passed < -MINUTE || passed >= 60 * MINUTE) return moment(at);
  return passed < MINUTE ? say("just") : say("ago", { minutes: Math.floor(passed / MINUTE) });
}

const midnight = (at) => Date.UTC(at.getFullYear(), at.getMonth(), at.getDate());

function daysAgo(at) {
  return Math.round((midnight(new Date(now())) - midnight(at)) / DAY);
}

export function dayOf(at) {
  const days = daysAgo(at);
  if (days === 0) return words.today;
  if (days === 1) return words.yesterday;
  const year = at.getFullYear() === new Date(now()).getFullYear() ? {} : { year: "numeric" };
  return new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long", ...year }).format(at);
}

// Every time of a part of the page, as its attribute says.
export function writeTimes(part = document) {
  for (const one of part.querySelectorAll("time[datetime]")) {
    const at = new Date(one.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const { dataset } = one;
    const text = "time" in dataset ? clock(at) : "moment" in dataset ? moment(at) : "ago" in dataset ? ago(at) : null;
    if (text !== null && one.textContent !== text) one.textContent = text;
  }
}
