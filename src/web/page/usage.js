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

/**
 * An image as people name it: the parts of its id that tell it from others.
 * @param {string} id a URN, or the id of a resource
 * @returns {[string, string]} its name, and where it is
 */
function names(id) {
  if (!id.startsWith("/")) {
    const [publisher, offer, ...rest] = id.split(":");
    return [rest.join(":") || id, [publisher, offer].filter(Boolean).join(" · ")];
  }
  const parts = id.split("/");
  const after = (/** @type {RegExp} */ name) => parts[parts.findIndex((part) => name.test(part)) + 1];
  const gallery = after(/^(galleries|sharedgalleries|communitygalleries)$/i);
  const version = /\/versions\//i.test(id) ? `/${after(/^versions$/i)}` : "";
  return [`${after(/^images$/i)}${version}`, gallery || after(/^resourcegroups$/i) || ""];
}

/** A link to an image. @param {string} id @param {string | null} [version] the version in use */
function link(id, version) {
  const [name, of] = names(id);
  const isUrn = !id.startsWith("/");
  const target = version && version !== "latest" ? (isUrn ? `${id}:${version}` : `${id}/versions/${version}`) : id;
  return make("a", { href: address("image", { id: target }), title: target }, make("span", { class: "name" }, name), version && make("span", { class: "tag mono" }, version), make("span", { class: "of" }, of));
}

/** @param {any} one */
function row(one) {
  const href = one.image ? address("image", { id: one.image }) : undefined;
  const name = make("span", { title: one.machine }, make("span", { class: "name" }, one.name), make("span", { class: "of" }, `${one.machineKind.replace("-", " ")} · ${one.location}`));
  const finding = make("span", { class: `pill ${FINDINGS[one.finding] ?? ""}`, title: one.reason }, one.finding);
  return { cells: [name, finding, one.image ? link(one.image, one.version) : "–", date(one.endsAt), one.moveTo ? link(one.moveTo) : "–"], href, text: one.machine };
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
