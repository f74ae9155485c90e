// @ts-check
// A purge plan, opened from a file for review. The file stays in the browser, and nothing is deleted.
import { commandBar, quoted } from "./command.js";
import { make, state } from "./dom.js";
import { bytes, counted, date, number, size } from "./format.js";
import { address } from "./route.js";
import { table } from "./table.js";

/** The greatest plan that is read, in bytes: about 100,000 manifests. */
const LARGEST = 64 << 20;
/** Rows of a table; further ones are counted. */
const MOST = 500;

/** A plan that was opened, kept while the user looks at its images. @type {{ name: string, plan: any } | null} */
let opened = null;

/**
 * The plan in a text. Throws an error that says what the text is not.
 * @param {string} text
 */
function parsed(text) {
  let plan;
  try {
    plan = JSON.parse(text);
  } catch {
    throw new Error("The file is not JSON. A plan is what azimg registry purge … --plan FILE writes.");
  }
  const isPlan = plan && typeof plan.loginServer === "string" && Array.isArray(plan.repositories) && plan.repositories.every((/** @type {any} */ one) => Array.isArray(one.deletions));
  if (!isPlan) throw new Error("The file is not a purge plan: it has no registry or no repositories.");
  if (plan.schemaVersion !== 1) throw new Error(`The plan has the schema version ${String(plan.schemaVersion)}; this page reads version 1.`);
  return plan;
}

/** @param {any} plan @param {any} of @param {string} digest */
const manifest = (plan, of, digest) => make("a", { class: "mono", href: address("image", { id: `${plan.loginServer}/${of.repository}@${digest}` }), title: digest }, digest.slice(0, 19), "…");

/** @param {string[]} tags */
const tagged = (tags) => (tags?.length > 0 ? make("span", { title: tags.join(", ") }, tags.slice(0, 4).join(", "), tags.length > 4 && ` and ${tags.length - 4} more`) : "–");

/**
 * A table with at most {@link MOST} rows.
 * @param {string} caption @param {import("./table.js").Column[]} columns @param {any[]} all @param {(one: any) => import("./table.js").Row} row
 */
function part(caption, columns, all, row) {
  if (!all || all.length === 0) return null;
  const rest = all.length - MOST;
  return [make("h3", {}, `${caption} `, make("small", {}, number(all.length))), table(caption, columns, all.slice(0, MOST).map(row)), rest > 0 && make("p", { class: "sub" }, `${number(rest)} more are in the file.`)];
}

/** @param {any} plan @param {any} of */
function repository(plan, of) {
  const took = part("Deleted", [{ title: "Manifest" }, { title: "Tags" }, { title: "Changed", class: "day-cell" }, { title: "Frees", class: "number" }, { title: "Why" }], of.deletions,
    (one) => ({ cells: [manifest(plan, of, one.digest), tagged(one.tags), date(one.changedAt), size(one.frees), one.reason], text: one.digest }));
  const tags = part("Tags removed, manifest kept", [{ title: "Tag" }, { title: "Manifest" }, { title: "Why" }, { title: "Kept because" }], of.untaggings,
    (one) => ({ cells: [one.tag, manifest(plan, of, one.digest), one.reason, one.protectedBy], text: one.tag }));
  const stays = part("Protected", [{ title: "Manifest" }, { title: "Tags" }, { title: "Changed", class: "day-cell" }, { title: "By" }], of.protected,
    (one) => ({ cells: [manifest(plan, of, one.digest), tagged(one.tags), date(one.changedAt), one.protectedBy], text: one.digest }));
  const kept = part("Kept by a rule", [{ title: "Tag" }, { title: "Why" }], of.kept, (one) => ({ cells: [one.tag, one.reason], text: one.tag }));
  const title = make("summary", {}, make("span", { class: "name" }, of.repository), ` deletes ${number(of.deletions.length)} of ${counted(of.manifests, "manifest")}, frees ${bytes(of.bytesFreed ?? 0)}`);
  return make("details", { class: "panel", open: plan.repositories.length === 1 }, title, of.leftAlone && make("p", { class: "sub" }, `Nothing is deleted: ${of.leftAlone}`), took, tags, stays, kept);
}

/** Whether a plan can still be applied, and when. @param {any} plan */
function validity(plan) {
  const isOver = Date.parse(plan.expiresAt) < Date.now();
  return make("span", { class: `pill ${isOver ? "bad" : "good"}` }, isOver ? "expired" : "can be applied until", " ", date(plan.expiresAt));
}

/** @param {string} name @param {any} plan @returns {(Node | null)[]} */
function review(name, plan) {
  const repositories = [...plan.repositories].sort((one, other) => (other.bytesFreed ?? 0) - (one.bytesFreed ?? 0));
  const idle = repositories.filter((one) => one.deletions.length + (one.untaggings?.length ?? 0) === 0 && !one.leftAlone);
  const facts = make("dl", {}, [
    ["registry", make("span", { class: "mono" }, plan.loginServer)],
    ["made", date(plan.madeAt)],
    ["deletes", `${number(plan.deletions)} of ${counted(plan.manifests, "manifest")}`],
    ["removes", counted(plan.untaggings ?? 0, "tag")],
    ["frees", size(plan.bytesFreed)],
    ["images in use", plan.usesKnown ? "checked" : "not checked: what runs is not known to the plan"],
  ].flatMap(([term, text]) => [make("dt", {}, term ?? ""), make("dd", {}, text ?? "")]));
  const notes = (plan.notes ?? []).map((/** @type {unknown} */ note) => make("li", {}, String(note)));
  return [
    make("p", {}, validity(plan)),
    make("div", { class: "panel" }, make("h2", {}, name), facts, notes.length > 0 && make("ul", {}, notes)),
    commandBar(`azimg registry purge --apply ${quoted(name)}`),
    ...repositories.filter((one) => !idle.includes(one)).map((one) => repository(plan, one)),
    idle.length > 0 ? make("p", { class: "sub" }, `Nothing is deleted from ${idle.length === 1 ? "one further repository" : `${number(idle.length)} further repositories`}.`) : null,
  ];
}

/** @type {import("./app.js").Page} */
export async function show(place) {
  const result = make("section", { "aria-label": "Plan", "aria-live": "polite" });
  /** @param {string} name @param {any} plan */
  const put = (name, plan) => result.replaceChildren(...review(name, plan).filter((node) => node !== null));
  let chosen = 0;
  /** @param {File | undefined} file */
  const open = async (file) => {
    if (!file) return;
    opened = null;
    chosen += 1;
    const mine = chosen;
    try {
      if (file.size > LARGEST) throw new Error(`The file has ${bytes(file.size)}, which is more than a plan of 100,000 manifests.`);
      const text = await file.text();
      // Reading a large file may end after one that was opened later.
      if (mine !== chosen) return;
      const plan = parsed(text);
      put(file.name, plan);
      opened = { name: file.name, plan };
    } catch (error) {
      if (mine === chosen) result.replaceChildren(state("This is not a plan", error instanceof Error ? error.message : String(error)));
    }
  };
  const field = make("input", { type: "file", accept: ".json,application/json", "aria-label": "Purge plan", onchange: (/** @type {Event} */ event) => void open(/** @type {HTMLInputElement} */ (event.target).files?.[0]) });
  const box = make("div", { class: "panel drop", ondragover: (/** @type {DragEvent} */ event) => event.preventDefault(), ondrop: (/** @type {DragEvent} */ event) => { event.preventDefault(); void open(event.dataTransfer?.files[0]); } }, make("p", {}, "Open the file that ", make("code", {}, "azimg registry purge … --plan FILE"), " wrote, or drop it here. It stays in this browser, and nothing is deleted from here."), field);
  place.replaceChildren(make("h1", { tabindex: -1 }, "Purge plan"), box, result);
  if (opened) put(opened.name, opened.plan);
}
