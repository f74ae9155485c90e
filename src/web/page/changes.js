// @ts-check
// The change feed of a run, by day and kind of change.
import { get } from "./api.js";
import { commandBar, commandLine } from "./command.js";
import { filters, make, state } from "./dom.js";
import { day, number } from "./format.js";
import { around } from "./paging.js";
import { address, changed, go, values } from "./route.js";
import { pager, table } from "./table.js";

const ROWS = 100;
const KINDS = ["added", "removed", "status", "locations", "latest", "tags", "attributes", "dates"];
/** @type {Record<string, string>} */
const TONES = { added: "good", removed: "bad", status: "warn", dates: "warn" };
const LONGEST = 160;

/** @param {any} value */
function shown(value) {
  if (value === null || value === undefined) return "–";
  const text = typeof value === "string" ? value : Array.isArray(value) ? value.join(", ") : JSON.stringify(value);
  return text.length > LONGEST ? make("span", { title: text }, `${text.slice(0, LONGEST)}…`) : text;
}

/** @type {import("./app.js").Page} */
export async function show(place, query, signal) {
  const asked = new URLSearchParams(query);
  asked.set("top", String(ROWS));
  const [answer, runs] = await Promise.all([get("changes", asked, signal), get("runs", { top: 30 }, signal)]);
  if (signal.aborted) return;
  const chosen = values(query, "change");
  const filter = make("fieldset", {}, make("legend", {}, "Change"), KINDS.map((kind) => make("label", { class: "facet" }, make("input", { type: "checkbox", checked: chosen.includes(kind), onchange: (/** @type {Event} */ event) => go(address("changes", changed(query, { change: /** @type {HTMLInputElement} */ (event.target).checked ? [...chosen, kind] : chosen.filter((one) => one !== kind) }))) }), make("span", {}, kind))));
  const published = runs.value.filter((/** @type {any} */ run) => run.publishedAt);
  const run = make("select", { id: "run", onchange: (/** @type {Event} */ event) => go(address("changes", changed(query, { run: /** @type {HTMLSelectElement} */ (event.target).value || null }))) },
    make("option", { value: "", selected: !query.get("run") }, "the current run"), published.map((/** @type {any} */ one) => make("option", { value: one.run, selected: query.get("run") === one.run }, `${day(one.publishedAt)}, ${one.run}`)));
  const search = make("input", { type: "search", value: query.get("search") ?? "", "aria-label": "Words of the image's name", placeholder: "name", onchange: (/** @type {Event} */ event) => go(address("changes", changed(query, { search: /** @type {HTMLInputElement} */ (event.target).value.trim() || null }))) });
  /** @type {Map<string, any[]>} */
  const days = new Map();
  for (const change of answer.value) days.set(day(change.at), [...(days.get(day(change.at)) ?? []), change]);
  const lists = [...days].flatMap(([name, list]) => {
    const rows = list.map((change) => {
      const href = address("image", { id: change.id });
      return { cells: [make("span", { class: `pill ${TONES[change.change] ?? ""}` }, change.change), make("a", { href }, make("span", { class: "mono" }, change.id), make("span", { class: "of" }, change.kind)), shown(change.before), shown(change.after)], href, text: change.id };
    });
    return [make("h2", { class: "day" }, name, ` · ${number(list.length)}`), table(`Changes of ${name}`, [{ title: "Change" }, { title: "Image" }, { title: "Before", class: "wide" }, { title: "After", class: "wide" }], rows)];
  });
  const { before, after } = around("changes", query, answer);
  const isFiltered = chosen.length > 0 || query.has("search");
  const empty = state(isFiltered ? "No change matches" : "Nothing changed", isFiltered ? "Remove a filter, or choose another run." : "The first run has no changes: there is nothing to compare it with. Later runs list what was added, removed or changed since.");
  const aside = filters(make("fieldset", {}, make("legend", {}, "Name"), search), make("fieldset", {}, make("legend", {}, make("label", { for: "run" }, "Run")), run), filter);
  place.replaceChildren(make("h1", {}, "Changes"), commandBar(commandLine("azimg changes", query)), make("div", { class: "columns" }, aside, make("section", { "aria-label": "Changes" }, lists.length > 0 ? lists : empty, pager(before, after))));
}
