// @ts-check
// Runs, newest first, with their durations.
import { get } from "./api.js";
import { commandBar } from "./command.js";
import { draw, make, state } from "./dom.js";
import { counted, day, number, pill, span } from "./format.js";
import { around } from "./paging.js";
import { address } from "./route.js";
import { pager, table } from "./table.js";

const ROWS = 50;
/** Runs in the chart. */
const BARS = 30;
const OUTCOMES = ["denied", "failed", "carried"];

/** @param {any} run */
const seconds = (run) => (run.publishedAt ? (Date.parse(run.publishedAt) - Date.parse(run.startedAt)) / 1000 : null);

/** @param {any} run */
const incomplete = (run) => OUTCOMES.reduce((sum, outcome) => sum + (run.coverage?.[outcome] ?? 0), 0);

/**
 * A bar for each run, oldest first.
 * @param {string} title @param {any[]} runs @param {(run: any) => number | null} value @param {(value: number) => string} text
 */
function chart(title, runs, value, text) {
  const [width, height] = [360, 64];
  const most = Math.max(1, ...runs.map((run) => value(run) ?? 0));
  const step = width / BARS;
  const bars = runs.map((run, at) => {
    const one = value(run) ?? 0;
    const tall = Math.max(1, (one / most) * height);
    const tone = run.state === "failed" ? "bad" : run.state === "partial" ? "warn" : "";
    return draw("a", { href: address("run", { run: run.run }), "aria-label": `${day(run.startedAt)}: ${text(one)}` }, draw("rect", { class: `bar ${tone}`, x: (at * step + 1).toFixed(1), y: (height - tall).toFixed(1), width: (step - 2).toFixed(1), height: tall.toFixed(1) }), draw("title", {}, `${day(run.startedAt)}: ${text(one)}`));
  });
  return make("div", { class: "panel" }, make("h2", {}, title, " ", make("small", {}, `at most ${text(most)}`)), draw("svg", { width: "100%", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": title }, ...bars));
}

/** @type {import("./app.js").Page} */
export async function show(place, query, signal) {
  const asked = new URLSearchParams(query);
  asked.set("top", String(ROWS));
  const answer = await get("runs", asked, signal);
  if (signal.aborted) return;
  const rows = answer.value.map((/** @type {any} */ run) => {
    const href = address("run", { run: run.run });
    const took = seconds(run);
    const bad = incomplete(run);
    const name = make("a", { href, title: run.startedAt }, make("span", { class: "name" }, `${day(run.startedAt)}, ${run.startedAt.slice(11, 16)}`), run.current && make("span", { class: "tag" }, "current"), make("span", { class: "of mono" }, run.run));
    return { cells: [name, pill(run.state), took === null ? "–" : make("span", { title: `${took} s` }, span(took)), run.images === null || run.images === undefined ? "–" : number(run.images), bad > 0 ? counted(bad, "listing") : "none"], href, text: run.run };
  });
  const published = answer.value.filter((/** @type {any} */ run) => run.publishedAt).slice(0, BARS).reverse();
  const charts = published.length > 1 ? make("div", { class: "two" }, chart("Duration", published, seconds, span), chart("Incomplete listings", published, incomplete, number)) : null;
  const { before, after } = around("runs", query, answer);
  const found = rows.length > 0 ? table("Runs", [{ title: "Started" }, { title: "State" }, { title: "Duration", class: "number" }, { title: "Images", class: "number wide" }, { title: "Incomplete", class: "wide" }], rows) : state("No run yet", "Start one with ", make("code", {}, "azimg crawl"), ".");
  place.replaceChildren(make("h1", {}, "Runs"), commandBar("azimg runs list"), charts ?? "", found, pager(before, after) ?? "");
}
