// @ts-check
// Two to eight images side by side. What differs is marked.
import { get } from "./api.js";
import { commandBar, quoted } from "./command.js";
import { make, pageState } from "./dom.js";
import { date, pill } from "./format.js";
import { places } from "./locations.js";
import { address, changed, go, values } from "./route.js";

const MOST = 8;
/** Members in the order of the rows; all features follow. */
const MEMBERS = /** @type {const} */ ([["version", "version"], ["status", "status"], ["scheduledDeprecationAt", "deprecated on"], ["endOfLifeAt", "end of life"], ["os", "operating system"], ["architecture", "architecture"], ["hyperVGeneration", "Hyper-V generation"], ["securityType", "security type"], ["planName", "plan"], ["alternative", "alternative"], ["firstSeenAt", "first seen"]]);

/** @param {string} member @param {any} image */
function cell(member, image) {
  const value = image[member];
  if (value === null || value === undefined || value === "") return "–";
  if (member === "status") return pill(value, image.scheduledDeprecationAt ?? image.endOfLifeAt);
  return member.endsWith("At") ? date(value) : String(value);
}

/**
 * The newest version of an image's SKU that is in all of these locations; null if there is none, or
 * if the image has no SKU.
 * @param {any} image
 * @param {string[]} locations
 * @param {AbortSignal} signal
 */
async function newestIn(image, locations, signal) {
  if (image.kind !== "marketplace" || locations.length === 0) return null;
  const { publisher, offer, sku } = image;
  // A list, because images/latest reports that there is none as an error.
  const found = await get("images", { publisher, offer, sku, exact: true, location: locations, status: ["active", "scheduled"], top: 1000 }, signal);
  return found.nextLink ? get("images/latest", { urn: `${publisher}:${offer}:${sku}`, location: locations }, signal) : found.value.at(-1) ?? null;
}

/**
 * The command that answers the same.
 * @param {any[]} images
 * @param {string[]} locations
 */
function command(images, locations) {
  const skus = images.filter((image) => image.kind === "marketplace").map((image) => quoted(`${image.publisher}:${image.offer}:${image.sku}`));
  if (locations.length > 0 && skus.length > 0) return `azimg images latest ${skus.join(" ")} --location ${locations.join(",")}`;
  return images.map((image) => `azimg images show ${quoted(image.id)}`).join("; ");
}

/**
 * Chooses the locations in which the newest versions are looked for.
 * @param {URLSearchParams} query
 * @param {string[]} chosen
 */
async function choice(query, chosen) {
  const groups = await places();
  const box = (/** @type {string} */ location) => make("label", { class: "facet" }, make("input", { type: "checkbox", checked: chosen.includes(location), onchange: (/** @type {Event} */ event) => go(address("compare", changed(query, { in: /** @type {HTMLInputElement} */ (event.target).checked ? [...chosen, location] : chosen.filter((one) => one !== location) }))) }), make("span", {}, location));
  const all = [...groups.values()].flat().filter((place) => place.marketplace > 0).map((place) => box(place.location));
  return make("details", { class: "panel", open: chosen.length > 0 }, make("summary", {}, "The newest version in all of these locations"), make("div", { class: "places" }, all));
}

/** @type {import("./app.js").Page} */
export async function show(place, query, signal) {
  const ids = [...new Set(query.getAll("id"))].slice(0, MOST);
  if (ids.length < 2) {
    place.replaceChildren(pageState("Choose two to eight images", "Open an image, and follow ", make("code", {}, "compare with the latest"), "; or add ids to this address: ", make("code", {}, "#/compare?id=…&id=…")));
    return;
  }
  const chosen = values(query, "in");
  const found = await Promise.all(ids.map((id) => get("images", { id }, signal)));
  const images = found.map((answer, at) => answer.value[0] ?? { id: ids[at], status: "gone", locations: [], features: {} });
  const [newest, panel] = await Promise.all([Promise.all(images.map((image) => newestIn(image, chosen, signal))), choice(query, chosen)]);
  if (signal.aborted) return;
  const inAll = new Map(images.map((image, at) => [image.id, newest[at]]));
  const everywhere = images.map((image) => new Set(image.locations)).reduce((all, one) => new Set([...all].filter((name) => one.has(name))));
  const features = [...new Set(images.flatMap((image) => Object.keys(image.features ?? {})))].sort();
  const all = [...MEMBERS.map(([member, title]) => ({ title, of: (/** @type {any} */ image) => cell(member, image), plain: (/** @type {any} */ image) => image[member] ?? null })),
    ...features.map((name) => ({ title: name, of: (/** @type {any} */ image) => image.features?.[name] ?? "–", plain: (/** @type {any} */ image) => image.features?.[name] ?? null })),
    { title: "locations", of: (/** @type {any} */ image) => String(image.locations?.length ?? 0), plain: (/** @type {any} */ image) => (image.locations ?? []).join() }];
  const latest = (/** @type {any} */ image) => inAll.get(image.id);
  if (chosen.length > 0) all.unshift({ title: `newest in ${chosen.join(", ")}`, of: (image) => (latest(image) ? make("a", { class: "mono", href: address("image", { id: latest(image).id }) }, latest(image).version) : "none"), plain: (image) => latest(image)?.version ?? "none" });
  const rows = all.filter((row) => images.some((image) => row.plain(image) !== null)).map((row) => {
    const differs = new Set(images.map((image) => JSON.stringify(row.plain(image)))).size > 1;
    return make("tr", {}, make("th", { scope: "row" }, row.title, differs && make("span", { class: "tag" }, "differs")), images.map((image) => make("td", {}, row.of(image))));
  });
  const remove = (/** @type {string} */ id) => address("compare", { id: ids.filter((one) => one !== id), in: chosen });
  const head = images.map((image) => make("th", { scope: "col" }, make("a", { class: "mono", href: address("image", { id: image.id }) }, image.id), ids.length > 2 && [" ", make("a", { href: remove(image.id), "aria-label": `Remove ${image.id}` }, "×")]));
  const grid = make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Comparison" }, make("table", {}, make("caption", { class: "hidden" }, "Images side by side"), make("thead", {}, make("tr", {}, make("td", {}), head)), make("tbody", {}, rows)));
  const common = [...everywhere].sort().join(", ");
  place.replaceChildren(make("h1", {}, "Compare"), make("p", { class: "sub" }, common ? `All of them are available in: ${common}` : "No location has all of them."), commandBar(command(images, chosen)), panel, grid);
}
