// The bell in the side bar: how many notices are new. The server writes it.

const PAUSE = 1500;
let waiting = 0;

async function ask() {
  waiting = 0;
  const answer = await fetch("/inbox/bell", { headers: { "X-Part": "bell" }, cache: "no-store" }).catch(() => null);
  if (!answer || answer.status >= 500) waiting ||= setTimeout(ask, 2 * PAUSE); // what is told is told once
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("bell");
  if (fresh) document.getElementById("bell")?.replaceChildren(...fresh.childNodes);
}

export function startBell() {
  for (const name of ["conversation", "update", "reset"]) {
    document.addEventListener(`inbox:${name}`, () => { waiting ||= setTimeout(ask, PAUSE); });
  }
}
