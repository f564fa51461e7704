// The form of a template: its examples, preview and checks follow what is typed, as the server sees them.

const FOLLOWING = ["examples", "preview", "checks", "hint-header", "hint-body", "hint-footer"];
const $ = (id) => document.getElementById(id);
const form = $("template");
let waiting = 0;

export function startTemplate() {
  form?.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(follow, 300);
  });
  const [add, text] = [$("placeholder"), $("body")];
  if (add) add.hidden = false;
  add?.addEventListener("click", () => { // the next free name, where the caret stands
    let n = 1;
    while (text.value.includes(`{{${add.value}${n}}}`)) n += 1;
    text.setRangeText(`{{${add.value}${n}}}`, text.selectionStart, text.selectionEnd, "end");
    text.focus();
    form.dispatchEvent(new Event("input"));
  });
}

async function follow() {
  // a button is called "action", so form.action is that button
  const body = new URLSearchParams([...new FormData(form), ["action", "check"]]);
  const answer = await fetch(form.getAttribute("action"), { method: "POST", body }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of FOLLOWING) {
    const [old, made] = [$(id), fresh.getElementById(id)];
    if (old && made && !old.contains(document.activeElement)) old.replaceWith(document.adoptNode(made));
  }
}
