// Keeps an open page alive: rows and figures follow the stream, ages count on, and a page that is stale says so.
// Everything that comes from the server as markup was rendered and escaped there; messages of the stream only say whose
// row is to be fetched anew.

import { ageText } from "./age.js";

const VITALS_EVERY = 10_000;
const LEAST_PAUSE = 1_000;
const main = document.getElementById("main");
const pulse = document.getElementById("pulse");
const stale = document.getElementById("stale");
const skew = Date.now() / 1000 - Number(main.dataset.now);

export const now = () => Date.now() / 1000 - skew;

// --- ages ------------------------------------------------------------------------------------------------------------

function countOn() {
  for (const time of document.querySelectorAll("time[data-age]")) {
    const age = now() - Date.parse(time.dateTime) / 1000;
    const text = ageText(age) + ("bare" in time.dataset ? "" : " ago");
    if (time.textContent !== text) time.textContent = text;
    if (time.dataset.late) time.classList.toggle("old", age > Number(time.dataset.late));
  }
}
setInterval(countOn, 1000);

// --- what is stale says so -------------------------------------------------------------------------------------------

const problems = { stream: null, server: null, pipeline: null };
const clock = (ms) => new Date(ms).toISOString().slice(11, 19);

function tell() {
  const text = stale.firstElementChild;
  const problem = problems.server ?? problems.stream ?? problems.pipeline;
  stale.hidden = problem === null;
  stale.classList.toggle("down", problems.server !== null || problems.pipeline !== null);
  if (problem !== null && text.textContent !== problem) text.textContent = problem;
  const state = problems.pipeline || problems.server ? "down" : problems.stream ? "lost" : opened ? "live" : "wait";
  pulse.dataset.state = state;
  const words = { down: "not live", lost: "reconnecting", live: "live", wait: "connecting" };
  if (pulse.textContent !== words[state]) pulse.textContent = words[state];
}

async function vitals() {
  try {
    const answer = await fetch("/vitals", { headers: { Accept: "application/json" } });
    if (answer.status === 401 || answer.redirected) {
      problems.server = "You are logged out, so this page is stale. Load it again to log in.";
    } else if (!answer.ok) {
      problems.server ??= `Since ${clock(Date.now())} UTC the page cannot read Redis. What it shows is older.`;
    } else {
      const vital = await answer.json();
      if (problems.server !== null) refresh();
      problems.server = null;
      problems.pipeline = vital.fault === null ? null
        : `The pipeline does not work: ${vital.fault}. What this page shows may be old. Run 'workermon status'.`;
      const count = document.getElementById("alert-count");
      if (count && parseInt(count.textContent, 10) !== vital.alerts) refresh();
    }
  } catch {
    problems.server ??= `Since ${clock(Date.now())} UTC the page's server does not answer. What the page shows is older.`;
  }
  tell();
}
setInterval(() => document.hidden || vitals(), VITALS_EVERY);
document.addEventListener("visibilitychange", () => document.hidden || vitals());

// --- parts of the page, fetched anew ---------------------------------------------------------------------------------

// Runs a job at most once at a time, and leaves the server ten times as long in peace as the job took.
function paced(job) {
  let waiting = false, running = false;
  const run = async () => {
    waiting = false;
    running = true;
    const begun = performance.now();
    try { await job(); } catch { /* vitals() says what is wrong */ }
    setTimeout(() => { running = false; if (waiting) run(); },
      Math.max(LEAST_PAUSE, 10 * (performance.now() - begun)));
  };
  return () => { if (running) waiting = true; else run(); };
}

const parse = (text) => new DOMParser().parseFromString(text, "text/html");

async function markup(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
  return parse(await answer.text());
}

// Puts a new element in the place of an old one; focus, open details and open confirmations stay.
function exchange(old, fresh) {
  if (old.outerHTML === fresh.outerHTML || old.querySelector(":popover-open")) return;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const key = focused && (focused.id ? `#${CSS.escape(focused.id)}`
    : focused.getAttribute("href") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : null);
  const open = [...old.querySelectorAll("details[open]")];
  for (const details of open) {
    const again = details.id && fresh.querySelector(`#${CSS.escape(details.id)}`);
    if (again) again.replaceWith(details);
  }
  old.replaceWith(fresh);
  for (const details of open) if (details.isConnected && details.dataset.load) load(details);
  if (key) fresh.querySelector(key)?.focus({ preventScroll: true });
  wire(fresh);
}

const refresh = paced(async () => {
  const page = await markup(location.href);
  for (const old of document.querySelectorAll("[data-live][id]")) {
    const fresh = page.getElementById(old.id);
    if (fresh) exchange(old, document.adoptNode(fresh));
  }
  const body = document.getElementById("rows"), other = page.getElementById("rows");
  if (body && other) body.replaceChildren(...document.adoptNode(other).children);
  countOn();
});

// Figures of a large fleet are read behind the page; they are there soon.
setInterval(() => document.hidden || document.querySelector("[data-soon]") && refresh(), 10_000);

const changed = new Set();
const rows = paced(async () => {
  const ids = [...changed].filter((id) => document.getElementById(`row-${id}`)).slice(0, 50);
  changed.clear();
  if (!ids.length) return;
  const answer = await fetch(`/rows?${new URLSearchParams(ids.map((id) => ["id", id]))}`);
  if (!answer.ok || answer.redirected) return;
  const table = parse(`<table><tbody>${await answer.text()}</tbody></table>`);
  for (const fresh of table.querySelectorAll("tr[id]")) {
    const old = document.getElementById(fresh.id);
    if (old) exchange(old, document.adoptNode(fresh));
  }
  countOn();
});

// --- the stream ------------------------------------------------------------------------------------------------------

const alone = document.getElementById("charts")?.dataset.charts.split("/")[2];
const shown = [...document.querySelectorAll("tr[data-worker]")].map((row) => row.dataset.worker);
const followed = alone ? [alone] : shown;
let opened = false;

function follow() {
  const source = new EventSource(`/api/v1/stream?${new URLSearchParams(followed.map((id) => ["worker", id]))}`);
  source.addEventListener("open", () => {
    if (opened) refresh();
    opened = true;
    problems.stream = null;
    tell();
  });
  source.addEventListener("error", () => {
    problems.stream ??= `Live updates were lost at ${clock(Date.now())} UTC. What this page shows is from that time. It connects again by itself.`;
    tell();
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  });
  source.addEventListener("sample", (event) => {
    const id = JSON.parse(event.data).worker_id;
    document.dispatchEvent(new CustomEvent("sample", { detail: id }));
    if (alone) refresh();
    else { changed.add(id); rows(); }
  });
  source.addEventListener("alert", () => refresh());
  addEventListener("pagehide", () => source.close(), { once: true });
}
if (main.dataset.view !== "Rules" && main.dataset.view !== "System") follow();
else { opened = true; tell(); }
vitals();

// --- parts that come by themselves -----------------------------------------------------------------------------------

async function load(place) {
  const address = place.dataset.part ?? place.dataset.load;
  const target = place.querySelector(".loaded") ?? place;
  try {
    target.replaceChildren(...document.adoptNode((await markup(address)).body).childNodes);
  } catch {
    const message = document.createElement("p");
    message.className = "quiet";
    message.textContent = "This part could not be read. ";
    const again = document.createElement("button");
    again.textContent = "Try again";
    again.addEventListener("click", () => load(place));
    message.append(again);
    target.replaceChildren(message);
  }
  countOn();
}

// Those in sight first, one after the other: each may be work for the server.
async function loadParts() {
  for (const place of document.querySelectorAll("[data-part]")) await load(place);
}
loadParts();
for (const place of document.querySelectorAll("[data-again]")) {
  setInterval(() => document.hidden || load(place), 1000 * Number(place.dataset.again));
}

// --- controls --------------------------------------------------------------------------------------------------------

// Squares are one stop of the tabulator; arrows go through them.
function wireCells(root) {
  for (const cells of root.querySelectorAll("[data-cells]")) {
    const all = [...cells.children];
    all.forEach((element, place) => { element.tabIndex = place ? -1 : 0; });
    cells.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const place = all.indexOf(document.activeElement);
      const next = event.key === "Home" ? all[0] : event.key === "End" ? all.at(-1) : step ? all[place + step] : null;
      if (!next || place < 0) return;
      event.preventDefault();
      all[place].tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }
}

function wire(root) {
  wireCells(root);
  for (const details of root.querySelectorAll("details[data-load]:not([open])")) {
    details.addEventListener("toggle", () => details.open && load(details));
  }
}
wire(document);

const filters = document.getElementById("filters");
if (filters) {
  // An empty field does not belong into the address.
  filters.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = [...new FormData(filters)].filter(([, value]) => value !== "");
    location.assign(`/${given.length ? "?" : ""}${new URLSearchParams(given)}`);
  });
  for (const select of filters.querySelectorAll("select")) select.addEventListener("change", () => filters.requestSubmit());
}

// One press is enough.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  for (const button of event.target.querySelectorAll("button:not([type=button])")) {
    setTimeout(() => { button.disabled = true; });
  }
});
