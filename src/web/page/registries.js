// @ts-check
// Repositories of container registries by size, and the manifests of one repository.
import { get } from "./api.js";
import { commandBar, commandLine, quoted } from "./command.js";
import { make, state } from "./dom.js";
import { bytes, counted, date, number, size } from "./format.js";
import { around } from "./paging.js";
import { address, changed, go } from "./route.js";
import { pager, table } from "./table.js";
import { treemap } from "./treemap.js";

const ROWS = 50;
const MOST_AREAS = 60;

/** @param {any} one */
const title = (one) => `${one.registry}/${one.repository}: ${one.bytes === null ? "size not known" : bytes(one.bytes)}${one.sharedBytes ? `, ${bytes(one.sharedBytes)} shared with other repositories` : ""}`;

/** @param {any} one */
const within = (one) => address("registries", { registry: one.registry, repository: one.repository });

/** @param {HTMLElement} place @param {URLSearchParams} query @param {AbortSignal} signal */
async function repositories(place, query, signal) {
  const asked = new URLSearchParams(query);
  asked.delete("kind");
  asked.delete("search");
  asked.set("top", String(MOST_AREAS));
  const answer = await get("registries/storage", asked, signal);
  if (signal.aborted) return;
  const all = answer.value;
  const rows = all.map((/** @type {any} */ one) => ({
    cells: [make("a", { href: within(one) }, make("span", { class: "name" }, one.repository), make("span", { class: "of" }, one.registry)), number(one.manifests), number(one.tags), number(one.untagged), size(one.bytes), size(one.exclusiveBytes), size(one.sharedBytes)], href: within(one), text: `${one.registry}/${one.repository}`,
  }));
  const areas = all.filter((/** @type {any} */ one) => one.bytes > 0).map((/** @type {any} */ one) => ({ name: one.repository, size: one.bytes, title: title(one), href: within(one), share: one.sharedBytes ? one.sharedBytes / one.bytes : 0 }));
  const map = areas.length > 1 ? make("div", { class: "panel" }, make("h2", {}, "Size ", make("small", {}, "pale: layers that are shared with other repositories")), treemap(areas, "Repositories by size")) : null;
  const columns = [{ title: "Repository" }, { title: "Manifests", class: "number" }, { title: "Tags", class: "number wide" }, { title: "Untagged", class: "number wide" }, { title: "Size", class: "number" }, { title: "Exclusive", class: "number wide", hint: "Freed if the repository is deleted" }, { title: "Shared", class: "number wide", hint: "Layers that other repositories have, too" }];
  const found = rows.length > 0 ? table("Repositories", columns, rows) : state("No repository is in the catalog", "Crawl registries with ", make("code", {}, "azimg crawl --source registry"), ".");
  const { before, after } = around("registries", query, answer);
  place.replaceChildren(make("h1", {}, "Registries"), make("p", { class: "sub" }, make("a", { href: address("plan") }, "Review a purge plan")), query.get("registry") ? commandBar(`azimg registry repositories ${quoted(query.get("registry") ?? "")} --storage`) : "", map ?? "", found, pager(before, after) ?? "");
}

/** @param {HTMLElement} place @param {URLSearchParams} query @param {AbortSignal} signal */
async function manifests(place, query, signal) {
  const listed = changed(query, { kind: "container-manifest", exact: query.has("repository") ? "true" : null });
  const asked = new URLSearchParams(listed);
  if (query.get("skipToken")) asked.set("skipToken", query.get("skipToken") ?? "");
  asked.set("top", String(ROWS));
  const answer = await get("images", asked, signal);
  if (signal.aborted) return;
  const rows = answer.value.map((/** @type {any} */ image) => {
    const href = address("image", { id: image.id });
    const referrers = Object.keys(image.referrers).length;
    const findings = Object.entries(image.findings).map(([severity, count]) => `${count} ${severity}`).join(", ");
    const tags = image.tags.slice(0, 4).map((/** @type {string} */ tag) => make("span", { class: "tag" }, tag));
    const name = make("a", { href }, make("span", { class: "mono" }, `${image.digest.slice(0, 19)}…`), tags, image.tags.length > 4 && ` and ${image.tags.length - 4} more`, make("span", { class: "of" }, `${image.loginServer}/${image.repository}`));
    return { cells: [name, image.artifactType ?? (image.platforms.join(", ") || "–"), size(image.bytes), referrers > 0 ? counted(referrers, "referrer") : "–", findings || "–", date(image.updatedAt ?? image.createdAt)], href, text: image.id };
  });
  const { before, after } = around("registries", query, answer);
  const back = make("p", {}, make("a", { href: address("registries", { registry: query.get("registry") }) }, "All repositories"));
  const search = make("input", { type: "search", value: query.get("search") ?? "", "aria-label": "Words of the image's name", placeholder: "name", onchange: (/** @type {Event} */ event) => go(address("registries", changed(query, { search: /** @type {HTMLInputElement} */ (event.target).value.trim() || null }))) });
  const found = rows.length > 0 ? table("Manifests", [{ title: "Manifest" }, { title: "Platforms", class: "wide" }, { title: "Size", class: "number" }, { title: "Referrers", class: "wide" }, { title: "Findings", class: "wide" }, { title: "Updated" }], rows) : state("No manifest matches", back);
  place.replaceChildren(make("h1", {}, query.get("repository") ?? "Container images"), back, commandBar(commandLine("azimg images list", listed)), search, found, pager(before, after) ?? "");
}

/** @type {import("./app.js").Page} */
export async function show(place, query, signal) {
  await (query.has("repository") || query.has("search") ? manifests : repositories)(place, query, signal);
}
