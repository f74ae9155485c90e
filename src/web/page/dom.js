// @ts-check
// Elements of the document. Texts from the catalog become text nodes only, never markup.

/** @typedef {Node | string | number | null | undefined | false} Child */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {Element} element
 * @param {Record<string, any>} attributes
 */
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name === "value" && "value" in element) element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * @param {Element} element
 * @param {(Child | Child[])[]} children
 */
function fill(element, children) {
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(typeof child === "number" ? String(child) : child);
  }
}

/**
 * Makes an HTML element. Attributes that are null, undefined or false are left out; those whose
 * name begins with `on` are listeners.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  fill(element, children);
  return element;
}

/**
 * Makes an SVG element.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {SVGElement}
 */
export function draw(tag, attributes = {}, ...children) {
  const element = /** @type {SVGElement} */ (document.createElementNS(SVG, tag));
  set(element, attributes);
  fill(element, children);
  return element;
}

/**
 * Returns the element of the page with this id.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element '${id}'`);
  return element;
}

/** @type {number | undefined} */
let clearing;

/**
 * Shows a message for three seconds, and reads it out.
 * @param {string} text
 */
export function toast(text) {
  const place = byId("toast");
  place.textContent = text;
  clearTimeout(clearing);
  clearing = setTimeout(() => { place.textContent = ""; }, 3000);
}

/**
 * Copies a text. Without permission for the clipboard, the text is selected for the user to copy.
 * @param {string} text
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`Copied: ${text.length > 60 ? `${text.slice(0, 57)}…` : text}`);
  } catch {
    const field = make("textarea", { readonly: true, class: "hidden", "aria-label": "Text to copy" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    toast(done ? "Copied" : "The browser does not permit copying");
  }
}

/**
 * A button that copies a text.
 * @param {() => string} text
 * @param {string} [label]
 * @param {string} [what] what is copied, for screen readers
 */
export function copyButton(text, label = "Copy", what) {
  return make("button", { type: "button", "aria-label": what, onclick: () => void copy(text()) }, label);
}

/**
 * A message in place of a list: what happened, and what to do next.
 * @param {string} title
 * @param {...Child} text
 */
export const state = (title, ...text) => make("div", { class: "state" }, make("h2", {}, title), make("p", {}, ...text));

/**
 * The same in place of a whole page.
 * @param {string} title
 * @param {...Child} text
 */
export const pageState = (title, ...text) => make("div", { class: "state" }, make("h1", {}, title), make("p", {}, ...text));

const WIDE = matchMedia("(min-width: 861px)");

/**
 * The filters of a list. On a narrow screen they are closed until the user opens them.
 * @param {...(Child | Child[])} children
 */
export function filters(...children) {
  const before = document.querySelector("details.filters");
  const open = WIDE.matches || (before instanceof HTMLDetailsElement && before.open);
  return make("aside", { "aria-label": "Filters" }, make("details", { class: "filters", open }, make("summary", {}, "Filters"), ...children));
}
