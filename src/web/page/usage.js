// @ts-check
// Machines and scale sets, with the findings of the images that they run; the worst first.
import { get } from "./api.js";
import { commandBar, commandLine } from "./command.js";
import { filters, make, state } from "./dom.js";
import { date, number } from "./format.js";
import { around } from "./paging.js";
import { address, changed, go, values } from "./route.js";
import { pager, table } from "./table.js";

const ROWS = 100;
/** Findings, the worst first, with their tone. @type {Record<string, string>} */
const FINDINGS = { gone: "bad", deprecated: "bad", "end-of-life": "bad", "not-latest": "warn", scheduled: "warn", unknown: "", ahead: "good", current: "good" };

/** @param {any} one */
function row(one) {
  const image = one.image ?? [one.publisher, one.offer, one.sku, one.version].filter(Boolean).join(":");
  const href = one.image && one.imageKind ? address("image", { id: one.image }) : undefined;
  const name = make("span", {}, make("span", { class: "name" }, one.name), make("span", { class: "of" }, `${one.machineKind} · ${one.location} · ${one.subscriptionId}`));
  const finding = make("span", { class: `pill ${FINDINGS[one.finding] ?? ""}`, title: one.reason }, one.finding);
  const target = one.moveTo ? make("a", { class: "mono", href: address("image", { id: one.moveTo }) }, one.moveTo) : "–";
  return { cells: [name, finding, href ? make("a", { class: "mono", href }, image) : make("span", { class: "mono" }, image || "–"), date(one.endsAt), target], href, text: one.machine };
}

/** @type {import("./app.js").Page} */
export async function show(place, query, signal) {
  const chosen = values(query, "finding");
  const head = [make("h1", {}, "Usage"), make("p", { class: "sub" }, "What runs on which image. This asks Azure, so it takes seconds and may need a function key."), commandBar(commandLine("azimg images usage", query))];
  place.replaceChildren(...head, make("p", { class: "state", role: "status" }, "Azure is asked for the machines of all subscriptions…"));
  const asked = new URLSearchParams(query);
  asked.set("top", String(ROWS));
  const answer = await get("images/usage", asked, signal);
  if (signal.aborted) return;
  const filter = make("fieldset", {}, make("legend", {}, "Finding"), Object.keys(FINDINGS).map((finding) => make("label", { class: "facet" }, make("input", { type: "checkbox", checked: chosen.includes(finding), onchange: (/** @type {Event} */ event) => go(address("usage", changed(query, { finding: /** @type {HTMLInputElement} */ (event.target).checked ? [...chosen, finding] : chosen.filter((one) => one !== finding) }))) }), make("span", {}, finding))));
  const rows = answer.value.map(row);
  const { before, after } = around("usage", query, answer);
  const found = rows.length > 0 ? table("Machines", [{ title: "Machine" }, { title: "Finding" }, { title: "Image" }, { title: "Ends" }, { title: "Move to", class: "wide" }], rows) : state("No machine matches", "No machine or scale set was found with these filters.");
  place.replaceChildren(...head, make("div", { class: "columns" }, filters(filter), make("section", { "aria-label": "Machines" }, make("div", { class: "count" }, make("b", {}, `${number(rows.length)}${answer.nextLink ? "+" : ""} machines`)), found, pager(before, after))));
}
