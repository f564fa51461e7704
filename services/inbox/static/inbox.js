// The page of the inbox: its parts, and what stands around them. Without scripts forms post and pages reload.

import { startBadges } from "./badge.js";
import { startBell } from "./bell.js";
import { writeTimes } from "./clock.js";
import { startComposer } from "./composer.js";
import { startKeys } from "./keys.js";
import { startList } from "./list.js";
import { startLive } from "./live.js";
import { startTemplate } from "./template.js";
import { startThread } from "./thread.js";

const again = document.getElementById("again");
if (again) { // a server was away: the page comes back by itself
  again.hidden = false;
  setTimeout(() => location.reload(), 5000);
}
startTemplate();
if (document.getElementById("rows")) {
  writeTimes();
  startBadges();
  startComposer(); // before the list, which shows what is kept
  startList();
  startThread();
  startKeys();
  startBell();
  startLive();
  // a half page of times and counters moves on without any event
  setInterval(() => writeTimes(), 30_000);
}
