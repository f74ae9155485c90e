// @ts-check
// One run: its progress while it is under way, and how its scopes ended.
import { get } from "./api.js";
import { commandBar, quoted } from "./command.js";
import { make, state } from "./dom.js";
import { ago, date, number, pill, span } from "./format.js";
import { address } from "./route.js";
import { table } from "./table.js";

/** How often a run that is under way is asked for, in milliseconds. */
const EVERY = 2000;
const OUTCOMES = ["done", "empty", "gone", "denied", "failed", "carried"];
const COLUMNS = OUTCOMES.map((title) => ({ title, class: title === "empty" || title === "gone" ? "number wide" : "number" }));

/** @param {string} first @param {any[]} lines @param {(line: any) => Node | string} name */
const counts = (first, lines, name) => table(`Coverage by ${first.toLowerCase()}`, [{ title: first }, ...COLUMNS], lines.map((line) => ({ cells: [name(line), ...OUTCOMES.map((outcome) => number(line[outcome] ?? 0))] })));

/** @param {any} gap */
function reason(gap) {
  const more = gap.count - gap.scopes.length;
  return make("details", { class: "panel" }, make("summary", {}, pill(gap.outcome), " ", `${number(gap.count)} × ${gap.reason || "no reason was given"}`), make("ul", {}, gap.scopes.map((/** @type {string} */ scope) => make("li", { class: "mono" }, scope))), more > 0 && make("p", {}, `and ${number(more)} more`));
}

/** @type {import("./app.js").Page} */
export async function show(place, query, signal) {
  const name = query.get("run") || "current";
  const coverage = await get(`runs/${encodeURIComponent(name)}/coverage`, {}, signal);
  if (signal.aborted) return;
  const isOver = coverage.publishedAt !== null && coverage.publishedAt !== undefined;
  const took = isOver ? span((Date.parse(coverage.publishedAt) - Date.parse(coverage.startedAt)) / 1000) : null;
  const head = [make("h1", {}, "Run ", make("span", { class: "mono" }, coverage.run)), make("p", { class: "sub" }, pill(coverage.state), " started ", date(coverage.startedAt), ` (${ago(coverage.startedAt)})`, took && `, published after ${took}`, " · ", make("a", { href: address("changes", { run: coverage.run }) }, "changes")), commandBar(`azimg runs show ${quoted(coverage.run)}`)];
  const progress = isOver ? null : await underWay(coverage.run, signal);
  const gaps = coverage.gaps.length > 0 ? [make("h2", {}, "What could not be listed"), coverage.gaps.map(reason)] : isOver ? [state("Nothing is missing", "Every listing of this run was answered.")] : [];
  const tables = [coverage.sources.length > 0 && [make("h2", {}, "By source"), counts("Source", coverage.sources, (line) => line.source)], coverage.locations.length > 0 && [make("h2", {}, "By location"), counts("Location", coverage.locations, (line) => line.location)]];
  place.replaceChildren(...head, progress ?? "", ...gaps.flat(), ...tables.flat(2).filter((part) => part instanceof Node));
  if (!isOver && coverage.state === "running") setTimeout(() => { if (!signal.aborted && !document.hidden) void show(place, query, signal).catch(() => undefined); }, EVERY);
}

/**
 * The progress of a run.
 * @param {string} run @param {AbortSignal} signal
 */
async function underWay(run, signal) {
  const report = await get(`runs/${run}`, {}, signal);
  const items = report.items;
  if (!items) return null;
  const all = Object.values(items).reduce((/** @type {number} */ sum, count) => sum + (typeof count === "number" ? count : 0), 0);
  return make("div", { class: "panel" }, make("h2", {}, "Work items"), make("dl", {}, Object.entries(items).flatMap(([name, count]) => [make("dt", {}, name), make("dd", {}, typeof count === "number" ? number(count) : String(count))])), make("p", { class: "sub" }, `${number(all)} in all; this page looks again every ${EVERY / 1000} s`));
}
