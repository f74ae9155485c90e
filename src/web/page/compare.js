// @ts-check
// Two to eight images side by side. What differs is marked.
import { get } from "./api.js";
import { commandBar, quoted } from "./command.js";
import { make, pageState } from "./dom.js";
import { date, pill } from "./format.js";
import { address } from "./route.js";

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

/** @type {import("./app.js").Page} */
export async function show(place, query, signal) {
  const ids = [...new Set(query.getAll("id"))].slice(0, MOST);
  if (ids.length < 2) {
    place.replaceChildren(pageState("Choose two to eight images", "Open an image, and follow ", make("code", {}, "compare with the latest"), "; or add ids to this address: ", make("code", {}, "#/compare?id=…&id=…")));
    return;
  }
  const found = await Promise.all(ids.map((id) => get("images", { id }, signal)));
  if (signal.aborted) return;
  const images = found.map((answer, at) => answer.value[0] ?? { id: ids[at], status: "gone", locations: [], features: {} });
  const everywhere = images.map((image) => new Set(image.locations)).reduce((all, one) => new Set([...all].filter((name) => one.has(name))));
  const features = [...new Set(images.flatMap((image) => Object.keys(image.features ?? {})))].sort();
  const all = [...MEMBERS.map(([member, title]) => ({ title, of: (/** @type {any} */ image) => cell(member, image), plain: (/** @type {any} */ image) => image[member] ?? null })),
    ...features.map((name) => ({ title: name, of: (/** @type {any} */ image) => image.features?.[name] ?? "–", plain: (/** @type {any} */ image) => image.features?.[name] ?? null })),
    { title: "locations", of: (/** @type {any} */ image) => String(image.locations?.length ?? 0), plain: (/** @type {any} */ image) => (image.locations ?? []).join() }];
  const rows = all.filter((row) => images.some((image) => row.plain(image) !== null)).map((row) => {
    const differs = new Set(images.map((image) => JSON.stringify(row.plain(image)))).size > 1;
    return make("tr", {}, make("th", { scope: "row" }, row.title, differs && make("span", { class: "tag" }, "differs")), images.map((image) => make("td", {}, row.of(image))));
  });
  const remove = (/** @type {string} */ id) => address("compare", { id: ids.filter((one) => one !== id) });
  const head = images.map((image) => make("th", { scope: "col" }, make("a", { class: "mono", href: address("image", { id: image.id }) }, image.id), ids.length > 2 && [" ", make("a", { href: remove(image.id), "aria-label": `Remove ${image.id}` }, "×")]));
  const grid = make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Comparison" }, make("table", {}, make("caption", { class: "hidden" }, "Images side by side"), make("thead", {}, make("tr", {}, make("td", {}), head)), make("tbody", {}, rows)));
  const common = [...everywhere].sort().join(", ");
  place.replaceChildren(make("h1", {}, "Compare"), make("p", { class: "sub" }, common ? `All of them are available in: ${common}` : "No location has all of them."), commandBar(ids.map((id) => `azimg images show ${quoted(id)}`).join("; ")), grid);
}
