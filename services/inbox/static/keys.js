// The keys of the inbox. Single letters count outside fields only, never send anything, and can be switched off.

const $ = (id) => document.getElementById(id);
const OFF = "keys-off";

function isOff() {
  try { return localStorage.getItem(OFF) === "1"; } catch { return false; }
}

function go(step) {
  const all = [...document.querySelectorAll("#rows a.row")];
  const at = all.indexOf(document.activeElement.closest("a.row") || document.querySelector("#rows [aria-current]"));
  all[at < 0 ? 0 : Math.min(Math.max(at + step, 0), all.length - 1)]?.focus();
}

function template() {
  if ($("tq")) return $("tq").focus();
  document.addEventListener("inbox:composed", () => $("tq")?.focus(), { once: true });
  $("use-template")?.click();
}

const KEYS = {
  j: () => go(1),
  k: () => go(-1),
  r: () => $("text")?.focus(),
  t: template,
  b: () => $("ask-button")?.focus(),
  "/": () => $("q")?.focus(),
  "?": () => $("keys")?.showModal(),
};
for (const n of [1, 2, 3, 4, 5]) KEYS[n] = () => document.querySelectorAll("#views a")[n - 1]?.click();

export function startKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    const field = event.target.closest?.("input, textarea, select");
    if (event.key === "Escape") return field ? field.blur() : document.querySelector(".thread-head .back")?.click();
    if (field || isOff() || !Object.hasOwn(KEYS, event.key)) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  const off = $("keys-off");
  if (off) off.checked = isOff();
  off?.addEventListener("change", () => {
    try { localStorage.setItem(OFF, off.checked ? "1" : "0"); } catch { /* storage may be switched off */ }
  });
}
