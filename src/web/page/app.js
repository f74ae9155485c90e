// @ts-check
// The frame of the page: sections, the age of the catalog, keys, and the page that the address names.
import { ApiError, get } from "./api.js";
import { byId, make, pageState, toast } from "./dom.js";
import { ago, span } from "./format.js";
import { forgetPlaces } from "./locations.js";
import { current } from "./route.js";
import { onTableKey } from "./table.js";

/**
 * A page: fills `place`, and may return what to do when the user leaves it.
 * @typedef {(place: HTMLElement, query: URLSearchParams, signal: AbortSignal) => Promise<void>} Page
 */

/** @type {Record<string, { title: string, load: () => Promise<{ show: Page }>, section?: boolean }>} */
const PAGES = {
  images: { title: "Images", load: () => import("./images.js"), section: true },
  image: { title: "Image", load: () => import("./image.js") },
  compare: { title: "Compare", load: () => import("./compare.js") },
  changes: { title: "Changes", load: () => import("./changes.js"), section: true },
  usage: { title: "Usage", load: () => import("./usage.js"), section: true },
  galleries: { title: "Galleries", load: () => import("./galleries.js"), section: true },
  registries: { title: "Registries", load: () => import("./registries.js"), section: true },
  plan: { title: "Purge plan", load: () => import("./plan.js") },
  runs: { title: "Runs", load: () => import("./runs.js"), section: true },
  run: { title: "Run", load: () => import("./run.js") },
};

/** How often the page looks for a newer snapshot, in milliseconds. */
const LOOK_EVERY = 30_000;
const STALE_AFTER_SECONDS = 48 * 3600;

/** @type {AbortController} */
let showing = new AbortController();
let shown = "";

/** @param {unknown} error */
function failed(error) {
  if (!(error instanceof ApiError)) {
    console.error(error);
    // The files of an older page are gone once a newer azimg is served.
    const reload = make("button", { type: "button", onclick: () => location.reload() }, "Load the page again");
    return pageState("This page could not be loaded", "A newer azimg may be running since it was opened. ", reload);
  }
  if (error.status === 503) return pageState("There is no catalog yet", error.message, " Run ", make("code", {}, "azimg crawl"), ", or ", make("code", {}, "azimg crawl --demo"), " to look around.");
  const again = make("button", { type: "button", onclick: () => void navigate() }, "Try again");
  return pageState(error.status === 0 ? "No answer" : "This cannot be shown", error.message, " ", again);
}

async function navigate() {
  showing.abort();
  showing = new AbortController();
  const { signal } = showing;
  const { page, query } = current();
  const place = byId("main");
  const known = PAGES[page];
  for (const link of byId("sections").querySelectorAll("a")) {
    const is = link.dataset.page === page;
    if (is) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (!known) {
    place.replaceChildren(pageState("There is no such page", make("a", { href: "#/images" }, "Go to the images")));
    return;
  }
  const isNew = shown !== page;
  shown = page;
  document.title = `${known.title} – azimg`;
  place.classList.add("loading");
  try {
    const { show } = await known.load();
    if (signal.aborted) return;
    await show(place, query, signal);
  } catch (error) {
    if (signal.aborted) return;
    place.replaceChildren(failed(error));
  }
  place.classList.remove("loading");
  if (isNew && !place.contains(document.activeElement)) place.focus({ preventScroll: true });
  if (isNew) scrollTo(0, 0);
}

let served = "";

/** Shows how old the catalog is, and whether something could not be listed. */
async function showAge() {
  const place = byId("age");
  const banner = byId("banner");
  try {
    const health = await get("health").catch((error) => { if (error instanceof ApiError && error.status === 503) return null; throw error; });
    const runs = (await get("runs", { top: 1 })).value;
    const run = runs[0];
    if (!run) { place.replaceChildren("No catalog yet"); return; }
    const age = health?.ageSeconds ?? (Date.now() - Date.parse(run.publishedAt)) / 1000;
    const isOld = age > STALE_AFTER_SECONDS;
    const isPartial = health?.state === "partial";
    place.replaceChildren(make("span", { class: `dot ${isOld ? "old" : isPartial ? "partial" : ""}`, "aria-hidden": "true" }), make("a", { href: "#/runs", title: run.publishedAt }, `${isPartial ? "Partial" : "Complete"}, ${span(age)} old`));
    const where = make("a", { href: "#/run?run=current" }, "see what is missing");
    if (isPartial) banner.replaceChildren("Something could not be listed in the last run; its rows are those of an earlier run, marked stale: ", where);
    else if (isOld) banner.replaceChildren(`The catalog is ${span(age)} old: it was published ${ago(run.publishedAt)}.`);
    else banner.replaceChildren();
    if (served && health?.run && served !== health.run) { forgetPlaces(); toast("A newer catalog is served now"); }
    served = health?.run ?? served;
  } catch {
    place.replaceChildren(make("span", { class: "dot old", "aria-hidden": "true" }), "No answer");
  }
}

function showKeys() {
  const keys = { "/": "search", "↑ ↓": "select a row", Enter: "open it", c: "copy its name", "?": "this list", Esc: "close, or leave the search" };
  const dialog = make("dialog", { "aria-label": "Keyboard shortcuts" }, make("h2", {}, "Keyboard shortcuts"),
    make("dl", {}, Object.entries(keys).flatMap(([key, what]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)])),
    make("form", { method: "dialog" }, make("button", { class: "main" }, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const target = event.target;
  const isTyping = target instanceof HTMLInputElement && target.type !== "checkbox" || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && target instanceof HTMLElement && isTyping) { target.blur(); return; }
  if (isTyping) return;
  if (event.key === "/") {
    const field = document.querySelector("main input[type=search]");
    if (field instanceof HTMLElement) { field.focus(); event.preventDefault(); }
    else location.hash = "#/images";
  } else if (event.key === "?") showKeys();
  else if (onTableKey(event)) event.preventDefault();
}

const THEME = "azimg-theme";

/** @param {string | null} theme */
function useTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

function changeTheme() {
  const isDark = getComputedStyle(document.documentElement).colorScheme === "dark";
  const theme = isDark ? "light" : "dark";
  localStorage.setItem(THEME, theme);
  useTheme(theme);
}

useTheme(localStorage.getItem(THEME));
byId("sections").append(...Object.entries(PAGES).filter(([, page]) => page.section).map(([name, page]) => make("a", { href: `#/${name}`, "data-page": name }, page.title)));
byId("help").addEventListener("click", showKeys);
byId("theme").addEventListener("click", changeTheme);
addEventListener("keydown", onKey);
addEventListener("hashchange", () => void navigate());
void navigate();
void showAge();
setInterval(() => { if (!document.hidden) void showAge(); }, LOOK_EVERY);
