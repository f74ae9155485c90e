// @ts-check
// Images of Compute Galleries, and managed images.
import { get } from "./api.js";
import { commandBar, commandLine } from "./command.js";
import { filters, make, state } from "./dom.js";
import { date, number, pill } from "./format.js";
import { places, strip } from "./locations.js";
import { around } from "./paging.js";
import { address, changed, go, values } from "./route.js";
import { pager, table } from "./table.js";

const ROWS = 50;
const KINDS = ["gallery-definition", "gallery-version", "managed-image"];
const STATUSES = ["active", "scheduled", "deprecated", "end-of-life"];

/**
 * Checkboxes of a parameter that takes several values.
 * @param {string} title @param {string} name @param {string[]} all @param {string[]} chosen @param {URLSearchParams} query
 */
const choice = (title, name, all, chosen, query) => make("fieldset", {}, make("legend", {}, title), all.map((value) => make("label", { class: "facet" }, make("input", { type: "checkbox", checked: chosen.includes(value), onchange: (/** @type {Event} */ event) => go(address("galleries", changed(query, { [name]: /** @type {HTMLInputElement} */ (event.target).checked ? [...chosen, value] : chosen.filter((one) => one !== value) }))) }), make("span", {}, value))));

/** @type {import("./app.js").Page} */
export async function show(place, query, signal) {
  const chosen = values(query, "kind");
  const asked = changed(query, { kind: chosen.length > 0 ? chosen : KINDS });
  if (query.get("skipToken")) asked.set("skipToken", query.get("skipToken") ?? "");
  const listed = new URLSearchParams(asked);
  asked.set("top", String(ROWS));
  const [answer, groups] = await Promise.all([get("images", asked, signal), places()]);
  if (signal.aborted) return;
  const rows = answer.value.map((/** @type {any} */ image) => {
    const href = address("image", { id: image.id });
    const of = [image.gallery ?? image.resourceGroup, image.sharing && image.sharing !== "private" && image.sharing].filter(Boolean).join(" · ");
    const tags = [image.kind !== "gallery-version" && image.kind.replace("gallery-", ""), image.os, image.architecture, image.stale && "stale"].filter(Boolean);
    const name = make("a", { href }, make("span", { class: "name" }, image.definition), tags.map((tag) => make("span", { class: "tag" }, tag)), make("span", { class: "of" }, of));
    return { cells: [name, image.version ? make("span", { class: "mono" }, image.version, image.isLatest && make("span", { class: "tag" }, "latest")) : "–", strip(groups, image.locations, image.locations), date(image.publishedAt), pill(image.status, image.endOfLifeAt)], href, text: image.id };
  });
  const { before, after } = around("galleries", query, answer);
  const search = make("input", { type: "search", value: query.get("search") ?? "", "aria-label": "Words of the image's name", placeholder: "name", onchange: (/** @type {Event} */ event) => go(address("galleries", changed(query, { search: /** @type {HTMLInputElement} */ (event.target).value.trim() || null }))) });
  const latest = make("fieldset", {}, make("legend", {}, "Versions"), make("label", { class: "facet" }, make("input", { type: "checkbox", checked: query.get("latest") === "true", onchange: (/** @type {Event} */ event) => go(address("galleries", changed(query, { latest: /** @type {HTMLInputElement} */ (event.target).checked ? "true" : null }))) }), make("span", {}, "only the latest")));
  const aside = filters(make("fieldset", {}, make("legend", {}, "Name"), search), choice("Kind", "kind", KINDS, chosen, query), latest, choice("Status", "status", STATUSES, values(query, "status"), query));
  const found = rows.length > 0 ? table("Gallery images", [{ title: "Definition" }, { title: "Version" }, { title: "Locations", class: "wide" }, { title: "Published", class: "wide" }, { title: "Status" }], rows)
    : state("No gallery image matches", "Remove a filter; or crawl galleries with ", make("code", {}, "azimg crawl --source gallery"), ".");
  place.replaceChildren(make("h1", {}, "Galleries"), commandBar(commandLine("azimg images list", listed)), make("div", { class: "columns" }, aside, make("section", { "aria-label": "Results" }, make("div", { class: "count", role: "status" }, make("b", {}, `${number(rows.length)}${answer.nextLink ? "+" : ""} images`)), found, pager(before, after))));
}
