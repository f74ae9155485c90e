// @ts-check
// One image: a marketplace version, a gallery image or a manifest.
import { get } from "./api.js";
import { basket } from "./basket.js";
import { commandBar, quoted } from "./command.js";
import { copyButton, draw, make, pageState } from "./dom.js";
import { bytes, counted, date, day, number, pill, size } from "./format.js";
import { places, placesPanel } from "./locations.js";
import { address } from "./route.js";
import { snippets } from "./snippets.js";
import { table } from "./table.js";

/** Versions in the time line and in the table. */
const MOST_VERSIONS = 500;
/** Versions in the table; older ones are behind a summary. */
const VISIBLE = 12;
/** Members that have a place of their own on the page. */
const SHOWN = new Set(["kind", "id", "status", "isLatest", "stale", "locations", "observedAt", "observedRun", "publisher", "offer", "sku", "version", "features", "tags", "layers", "annotations", "labels", "referrers", "findings", "manifests", "platforms", "replication", "replicas"]);

/**
 * The name of a member as words: `hyperVGeneration` becomes `hyper V generation`.
 * @param {string} member
 */
const words = (member) => member.replace(/([A-Z])/g, " $1").toLowerCase().replace("hyper v", "Hyper-V").replace(" id", " ID").replace(/^os\b/, "OS");

/** @param {string} member @param {any} value @returns {Node | string} */
function shown(member, value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return member === "bytes" ? size(value) : number(value);
  if (Array.isArray(value)) return value.map((one) => (typeof one === "object" ? JSON.stringify(one) : String(one))).join(", ");
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value)) return date(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** @param {any} value */
const isEmpty = (value) => value === null || value === "" || (Array.isArray(value) && value.length === 0) || (typeof value === "object" && Object.keys(value).length === 0);

/** All members that are known and not shown elsewhere. @param {any} image */
function facts(image) {
  const known = Object.entries(image).filter(([member, value]) => !SHOWN.has(member) && !isEmpty(value));
  return make("div", { class: "panel" }, make("h2", {}, "Facts"), make("dl", {}, known.flatMap(([member, value]) => [make("dt", {}, words(member)), make("dd", {}, shown(member, value))])));
}

/** A map, such as features or tags. @param {string} title @param {Record<string, any> | undefined} map */
function pairs(title, map) {
  if (!map || isEmpty(map)) return null;
  const rows = Object.entries(map).map(([name, value]) => [make("dt", {}, name), make("dd", {}, title === "Layers" && typeof value === "number" ? size(value) : shown("", value))]);
  return make("div", { class: "panel" }, make("h2", {}, title), make("dl", {}, rows.flat()));
}

/**
 * When an image came: as published, else as first seen by a run.
 * @param {any} image
 */
const since = (image) => image.publishedAt ?? image.createdAt ?? image.firstSeenAt;

/** The versions of a SKU or a definition, oldest first. @param {any[]} versions @param {any} image */
function timeLine(versions, image) {
  const [width, height] = [460, 70];
  const times = versions.map((one) => Date.parse(since(one)));
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const isSpread = last > first;
  const x = (/** @type {number} */ at) => 12 + (isSpread ? ((times[at] ?? first) - first) / (last - first) : versions.length < 2 ? 0.5 : at / (versions.length - 1)) * (width - 24);
  const dots = versions.map((one, at) => {
    const kind = one.isLatest ? "latest" : one.status === "active" || one.status === "scheduled" ? "" : "gone";
    return draw("circle", { class: `v-dot ${kind}`, cx: x(at).toFixed(1), cy: 30, r: one.id === image.id ? 7 : 4 }, draw("title", {}, `${one.version}, ${one.status}, ${day(since(one))}`));
  });
  const ends = isSpread ? [draw("text", { class: "label", x: 8, y: 58 }, day(new Date(first).toISOString())), draw("text", { class: "label", x: width - 8, y: 58, "text-anchor": "end" }, day(new Date(last).toISOString()))] : [draw("text", { class: "label", x: 8, y: 58 }, "in order; all were first seen by the same run")];
  const label = `${counted(versions.length, "version")}, the newest ${versions.at(-1)?.version}`;
  return draw("svg", { width: "100%", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, draw("line", { class: "axis", x1: 6, x2: width - 6, y1: 30, y2: 30 }), ...dots, ...ends);
}

/** @param {any[]} versions @param {any} image @param {boolean} isAll */
function versionsPanel(versions, image, isAll) {
  const rows = [...versions].reverse().map((one) => {
    const href = address("image", { id: one.id });
    const name = make("a", { href, class: "mono", "aria-current": one.id === image.id && "true" }, one.version, one.isLatest && make("span", { class: "tag" }, "latest"), one.stale && make("span", { class: "tag" }, "stale"));
    return { cells: [name, pill(one.status, one.scheduledDeprecationAt ?? one.endOfLifeAt), number(one.locations.length), date(since(one))], href, text: one.id };
  });
  const columns = [{ title: "Version" }, { title: "Status" }, { title: "Locations", class: "number" }, { title: "Since", class: "day-cell" }];
  const rest = rows.slice(VISIBLE);
  const title = isAll ? counted(versions.length, "version") : `the first ${number(versions.length)} versions`;
  return make("div", { class: "panel" }, make("h2", {}, "Versions ", make("small", {}, title)), timeLine(versions, image), table("Versions", columns, rows.slice(0, VISIBLE)), rest.length > 0 && make("details", {}, make("summary", {}, `${counted(rest.length, "older version")}`), table("Older versions", columns, rest)));
}

/** The generation as people write it, such as `Gen2`. @param {any} image */
const generation = (image) => image.hyperVGeneration && `Gen${image.hyperVGeneration.replace(/^V/, "")}`;

/** @param {any} image */
const isMarketplace = (image) => image.kind === "marketplace";

/** The parameters of a list of all versions of an image's SKU or definition. @param {any} image */
function siblings(image) {
  if (isMarketplace(image)) return { publisher: image.publisher, offer: image.offer, sku: image.sku, exact: "true" };
  if (image.kind === "gallery-version") return { kind: image.kind, gallery: image.gallery, definition: image.definition, subscription: image.subscriptionId, exact: "true" };
  return null;
}

/** What names an image to people, and what it belongs to. @param {any} image */
function names(image) {
  if (isMarketplace(image)) return [image.sku, `${image.publisher} · ${image.offer}`];
  if (image.kind === "container-manifest") return [`${image.repository}${image.tags[0] ? `:${image.tags[0]}` : ""}`, image.loginServer];
  return [image.definition, image.gallery ?? image.resourceGroup ?? "managed image"];
}

/** @param {any} image */
function manifestPanels(image) {
  const parts = image.manifests.map((/** @type {string} */ digest) => make("li", {}, make("a", { class: "mono", href: address("image", { id: `${image.loginServer}/${image.repository}@${digest}` }) }, digest)));
  const total = Object.values(image.layers ?? {}).reduce((/** @type {number} */ sum, layer) => sum + (typeof layer === "number" ? layer : 0), 0);
  return [
    pairs("Findings", image.findings),
    make("div", { class: "panel" }, make("h2", {}, "Content"), make("dl", {}, make("dt", {}, "digest"), make("dd", { class: "mono" }, image.digest), make("dt", {}, "platforms"), make("dd", {}, image.platforms.join(", ") || "–"), make("dt", {}, "tags"), make("dd", {}, image.tags.join(", ") || "none"), total > 0 && [make("dt", {}, "layers"), make("dd", {}, `${Object.keys(image.layers).length}, ${bytes(total)}`)]), parts.length > 0 && [make("h2", {}, "Manifests"), make("ul", {}, parts)]),
    pairs("Referrers", image.referrers), pairs("Annotations", image.annotations), pairs("Labels", image.labels),
  ];
}

/** @type {import("./app.js").Page} */
export async function show(place, query, signal) {
  const id = query.get("id") ?? "";
  const found = await get("images", { id }, signal);
  const image = found.value[0];
  if (!image) {
    place.replaceChildren(pageState("This image is not in the catalog", make("span", { class: "mono" }, id), " was not found in the current snapshot. ", make("a", { href: address("changes", { search: id.split(":").slice(0, 3).join(" ") }) }, "Look for it in the changes"), "."));
    return;
  }
  const all = siblings(image);
  const [groups, code, versions] = await Promise.all([places(), snippets(image, signal), all ? get("images", { ...all, top: MOST_VERSIONS }, signal) : { value: [] }]);
  if (signal.aborted) return;
  const [name, of] = names(image);
  const isUrn = isMarketplace(image);
  const latest = versions.value.find((/** @type {any} */ one) => one.isLatest);
  const inAny = [...new Set(versions.value.flatMap((/** @type {any} */ one) => one.locations))];
  const own = image.locations ?? (image.location ? [image.location] : []);
  const ends = image.scheduledDeprecationAt ?? image.endOfLifeAt;
  const compare = latest && latest.id !== image.id ? make("a", { href: address("compare", { id: [image.id, latest.id] }) }, "compare with the latest") : null;
  const head = [
    make("h1", { tabindex: -1 }, name, [image.architecture, generation(image), image.planName && "plan", image.stale && "stale"].filter(Boolean).map((tag) => make("span", { class: "tag" }, tag))),
    make("p", { class: "sub" }, of, " · ", image.version && [make("code", {}, image.version), " "], image.isLatest && "latest · ", pill(image.status, ends), " ", copyButton(() => image.id, isUrn ? "Copy URN" : "Copy id"), " ", basket(image.id), " ", compare),
    commandBar(`azimg images show ${quoted(image.id)}`),
  ];
  const title = isUrn ? [`Where `, make("small", {}, `${counted(inAny.length, "location")} with any version, ${number(own.length)} with this one`)] : ["Where ", make("small", {}, counted(own.length, "location"))];
  const where = own.length > 0 || inAny.length > 0 ? make("div", { class: "panel" }, make("h2", {}, title), placesPanel(groups, inAny.length > 0 ? inAny : own, own)) : null;
  const changes = make("p", {}, make("a", { href: address("changes", { search: isUrn ? `${image.publisher} ${image.offer} ${image.sku}` : name }) }, "Changes of this image"));
  const left = make("div", {}, image.kind === "container-manifest" ? manifestPanels(image) : where, code);
  const right = make("div", {}, versions.value.length > 0 && versionsPanel(versions.value, image, !versions.nextLink), facts(image), pairs("Features", image.features), image.kind !== "container-manifest" && pairs("Tags", image.tags), changes);
  place.replaceChildren(...head, make("div", { class: "two" }, left, right));
  document.title = `${name} – ${of} – azimg`;
}
