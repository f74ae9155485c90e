// @ts-check
// SKUs of the marketplace that match a search and filters, with facets.
import { get } from "./api.js";
import { commandBar, commandLine } from "./command.js";
import { filters, make, state } from "./dom.js";
import { counted, number, pill } from "./format.js";
import { places, strip } from "./locations.js";
import { around } from "./paging.js";
import { address, changed, current, go, values } from "./route.js";
import { searchBox } from "./search.js";
import { pager, table } from "./table.js";

const ROWS = 50;
/** Facets in the order of the page: parameter, title, whether several values may be chosen. */
const FACETS = /** @type {const} */ ([
  ["status", "Status", true],
  ["publisher", "Publisher", false],
  ["os", "Operating system", false],
  ["architecture", "Architecture", false],
  ["generation", "Generation", false],
  ["plan", "Purchase plan", false],
  ["location", "Location", true],
]);
const SORTS = { relevance: "best match", name: "name", images: "most versions", locations: "most locations", ends: "ends first" };
/** More values of a facet are behind "more". */
const VISIBLE = 8;

/**
 * @param {string} name
 * @param {string} title
 * @param {boolean} several
 * @param {{ value: string | null, skus: number }[]} found
 * @param {URLSearchParams} query
 */
function facet(name, title, several, found, query) {
  const chosen = values(query, name);
  const isChosen = (/** @type {string} */ value) => chosen.some((one) => one.toLowerCase() === value.toLowerCase());
  const known = found.filter((one) => one.value !== null);
  const all = [...chosen.filter((value) => !known.some((one) => one.value?.toLowerCase() === value.toLowerCase())).map((value) => ({ value, skus: 0 })), ...known];
  if (all.length === 0) return null;
  const boxes = all.map(({ value, skus }) => {
    const text = value ?? "";
    const onchange = (/** @type {Event} */ event) => {
      const isOn = /** @type {HTMLInputElement} */ (event.target).checked;
      const rest = several ? chosen.filter((one) => one.toLowerCase() !== text.toLowerCase()) : [];
      go(address("images", changed(query, { [name]: isOn ? [...rest, text] : rest })));
    };
    return make("label", { class: skus === 0 ? "facet none" : "facet" }, make("input", { type: "checkbox", checked: isChosen(text), onchange, "data-facet": `${name}=${text}` }), make("span", {}, text), make("small", {}, number(skus)));
  });
  const unknown = found.find((one) => one.value === null);
  const note = unknown ? make("div", { class: "facet none" }, make("span", {}, "not known"), make("small", {}, number(unknown.skus))) : null;
  const more = boxes.slice(VISIBLE);
  return make("fieldset", {}, make("legend", {}, title), boxes.slice(0, VISIBLE), more.length > 0 && make("details", {}, make("summary", {}, `${more.length} more`), more), note);
}

/**
 * @param {any} sku
 * @param {Map<string, import("./locations.js").Place[]>} groups
 */
function row(sku, groups) {
  const href = address("image", { id: sku.id });
  const tags = [sku.architecture, sku.hyperVGeneration && `Gen${sku.hyperVGeneration.replace(/^V/, "")}`, sku.plan && "plan", sku.stale && "stale"].filter(Boolean);
  const name = make("a", { href }, make("span", { class: "name" }, sku.sku), tags.map((tag) => make("span", { class: "tag" }, tag)), make("span", { class: "of" }, `${sku.publisher} · ${sku.offer}`));
  const version = sku.latest === null ? make("span", { title: "No version can be deployed" }, "none") : make("span", { class: "mono" }, sku.latest);
  return { cells: [name, version, number(sku.images), strip(groups, sku.inLocations, sku.latestIn), sku.status ? pill(sku.status, sku.scheduledDeprecationAt) : "–"], href, text: sku.id };
}

/**
 * @param {any} answer
 * @param {URLSearchParams} query
 */
function count(answer, query) {
  const sort = make("select", { "aria-label": "Order", onchange: (/** @type {Event} */ event) => go(address("images", changed(query, { sort: /** @type {HTMLSelectElement} */ (event.target).value }))) },
    Object.entries(SORTS).map(([value, title]) => make("option", { value, selected: value === (query.get("sort") ?? "relevance") }, title)));
  const missing = answer.unknown ? `${counted(answer.unknown, "more image")} may match: their details are not known` : "";
  return make("div", { class: "count", role: "status" }, make("b", {}, counted(answer.total, "SKU")), make("small", {}, counted(answer.images, "version")), missing && make("small", {}, missing), make("label", {}, "Order ", sort));
}

/** The kinds that other pages list. @param {any[]} kinds */
function elsewhere(kinds, /** @type {URLSearchParams} */ query) {
  const words = { search: query.get("search") };
  const links = kinds.filter((kind) => kind.images > 0).map((kind) => {
    const page = kind.value === "container-manifest" ? "registries" : "galleries";
    return make("a", { href: address(page, { ...words, kind: kind.value }) }, `${number(kind.images)} ${kind.value.replaceAll("-", " ")}s`);
  });
  return links.length > 0 ? make("p", { class: "sub" }, "Also: ", links.flatMap((link, at) => (at > 0 ? [", ", link] : [link]))) : null;
}

/**
 * The parts of facets that are open or closed.
 * @param {HTMLElement} place
 * @returns {HTMLDetailsElement[]}
 */
const detailsOf = (place) => [...place.querySelectorAll("fieldset details")].filter((one) => one instanceof HTMLDetailsElement);

/** @type {import("./app.js").Page} */
export async function show(place, query, signal) {
  const asked = new URLSearchParams(query);
  asked.set("top", String(ROWS));
  asked.set("facets", "true");
  asked.set("count", "true");
  const [answer, groups] = await Promise.all([get("skus", asked, signal), places()]);
  if (signal.aborted) return;
  const aside = filters(FACETS.map(([name, title, several]) => facet(name, title, several, answer.facets[name] ?? [], query)));
  const rows = answer.value.map((/** @type {any} */ sku) => row(sku, groups));
  const { before, after } = around("images", query, answer);
  const found = rows.length > 0
    ? table("SKUs", [{ title: "SKU" }, { title: "Latest version" }, { title: "Versions", class: "number wide" }, { title: "Locations", class: "wide", hint: "Dark: latest version; pale: an older one; empty: not available; outline: not listed" }, { title: "Status" }], rows)
    : state("Nothing matches", "Use fewer words or filters. ", make("a", { href: "#/images" }, "Show all images"));
  const section = make("section", { "aria-label": "Results" }, count(answer, query), elsewhere(answer.facets.kind ?? [], query), found, pager(before, after));
  const columns = make("div", { class: "columns" }, aside, section);
  const line = commandBar(commandLine("azimg skus", query));
  // The search box stays in place while its results change, so that it keeps focus and caret.
  const kept = place.querySelector(".searching");
  const opened = detailsOf(place).map((details) => details.open);
  if (kept && current().page === "images") {
    while (place.lastChild !== kept) place.lastChild?.remove();
    place.append(line, columns);
    const field = kept.querySelector("input");
    if (field && document.activeElement !== field) field.value = query.get("search") ?? "";
    for (const [at, details] of detailsOf(place).entries()) details.open = opened[at] ?? false;
  } else {
    place.replaceChildren(make("h1", { class: "hidden" }, "Images"), searchBox(query.get("search") ?? ""), line, columns);
  }
}
