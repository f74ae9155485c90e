// @ts-check
// A table whose rows are selected with the arrow keys, opened with Enter and copied with `c`.
import { copy, make } from "./dom.js";

/**
 * @typedef {object} Column
 * @property {string} title
 * @property {string} [class]
 * @property {string} [hint]
 */

/**
 * @typedef {object} Row
 * @property {(Node | string | number | null)[]} cells
 * @property {string} [href] the page that Enter opens
 * @property {string} [text] what `c` copies
 */

/**
 * Makes a table.
 * @param {string} caption for screen readers
 * @param {Column[]} columns
 * @param {Row[]} rows
 */
export function table(caption, columns, rows) {
  const head = columns.map((column) => make("th", { scope: "col", class: column.class, title: column.hint }, column.title));
  const body = rows.map((row) => make("tr", { "data-href": row.href, "data-text": row.text }, row.cells.map((cell, at) => make("td", { class: columns[at]?.class }, cell))));
  const element = make("table", {}, make("caption", { class: "hidden" }, caption), make("thead", {}, make("tr", {}, head)), make("tbody", {}, body));
  return make("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: 0 }, element);
}

/** @returns {HTMLTableRowElement[]} */
const selectable = () => [...document.querySelectorAll("main tr[data-href], main tr[data-text]")].filter((row) => row instanceof HTMLTableRowElement);

/** The row that the arrow keys selected. */
const selected = () => selectable().find((row) => row.getAttribute("aria-selected") === "true");

/** @param {number} by */
function move(by) {
  const rows = selectable();
  if (rows.length === 0) return;
  const at = rows.findIndex((row) => row.getAttribute("aria-selected") === "true");
  const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
  rows[at]?.removeAttribute("aria-selected");
  next?.setAttribute("aria-selected", "true");
  const link = next?.querySelector("a");
  if (link instanceof HTMLElement) link.focus();
  next?.scrollIntoView({ block: "nearest" });
}

/**
 * Handles a key for the table of the page. Returns whether it was one of the table's keys.
 * @param {KeyboardEvent} event
 */
export function onTableKey(event) {
  const row = selected();
  if (event.key === "ArrowDown") move(1);
  else if (event.key === "ArrowUp") move(-1);
  else if (event.key === "c" && row?.dataset.text) void copy(row.dataset.text);
  else if (event.key === "Enter" && row?.dataset.href && !(event.target instanceof HTMLAnchorElement)) location.hash = row.dataset.href;
  else return false;
  return true;
}

/** A link to a page, or a button that does nothing. */
const step = (/** @type {string | null} */ to, /** @type {string} */ label) => (to === null ? make("button", { type: "button", disabled: true }, label) : make("a", { href: to, class: "button" }, label));

/**
 * Buttons for the pages of a list. A list is read forward, so the pages before are kept by the
 * caller.
 * @param {string | null} before the address of the page before; empty for the first page
 * @param {string | null} after the address of the next page
 */
export function pager(before, after) {
  if (before === null && after === null) return null;
  return make("nav", { class: "pager", "aria-label": "Pages" }, step(before, "← Previous"), step(after, "Next →"));
}
