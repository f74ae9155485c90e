// @ts-check
// The search box: results as one types, and suggestions of names.
import { get } from "./api.js";
import { draw, make } from "./dom.js";
import { number } from "./format.js";
import { address, changed, current, go } from "./route.js";

/** What a suggestion of each kind leads to. @type {Record<string, (one: any) => string>} */
const LEADS_TO = {
  publisher: (one) => address("images", { publisher: one.text, exact: "true" }),
  offer: (one) => address("images", { publisher: one.publisher, offer: one.text, exact: "true" }),
  sku: (one) => address("images", { publisher: one.publisher, offer: one.offer, sku: one.text, exact: "true" }),
  location: (one) => address("images", { location: one.text }),
  alias: (one) => address("images", { search: one.text }),
  gallery: (one) => address("galleries", { gallery: one.text }),
  definition: (one) => address("galleries", { definition: one.text }),
  repository: (one) => address("registries", { repository: one.text }),
};

/**
 * Makes the search box.
 * @param {string} words
 */
export function searchBox(words) {
  const list = make("ul", { class: "suggestions", id: "suggestions", role: "listbox", "aria-label": "Suggestions", hidden: true });
  const field = make("input", { type: "search", id: "search", value: words, placeholder: "ubuntu 24.04 arm64", autocomplete: "off", spellcheck: "false", role: "combobox", "aria-expanded": "false", "aria-controls": "suggestions", "aria-autocomplete": "list" });
  const glass = draw("svg", { width: 18, height: 18, viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": 2, "aria-hidden": "true" }, draw("circle", { cx: 11, cy: 11, r: 7 }), draw("path", { d: "m20 20-4-4" }));
  let asking = new AbortController();
  let at = -1;

  const close = () => { list.hidden = true; at = -1; field.setAttribute("aria-expanded", "false"); field.removeAttribute("aria-activedescendant"); };
  const select = (/** @type {number} */ next) => {
    const options = [...list.children];
    options[at]?.removeAttribute("aria-selected");
    at = next < -1 ? options.length - 1 : next >= options.length ? -1 : next;
    const option = options[at];
    if (!option) { field.removeAttribute("aria-activedescendant"); return; }
    option.setAttribute("aria-selected", "true");
    field.setAttribute("aria-activedescendant", option.id);
  };
  const suggest = async () => {
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    const text = field.value.trim();
    if (text.length < 2) { close(); return; }
    const answer = await get("suggestions", { search: text, top: 6 }, signal).catch(() => null);
    if (signal.aborted || document.activeElement !== field) return;
    const found = (answer?.value ?? []).filter((/** @type {any} */ one) => one.kind in LEADS_TO);
    list.replaceChildren(...found.map((/** @type {any} */ one, /** @type {number} */ number_) => make("li", { id: `suggestion-${number_}`, role: "option", "data-href": LEADS_TO[one.kind]?.(one), onmousedown: (/** @type {Event} */ event) => { event.preventDefault(); go(LEADS_TO[one.kind]?.(one) ?? "#/images"); close(); } }, one.text, make("small", {}, `${one.kind}${one.images ? ` · ${number(one.images)}` : ""}`))));
    at = -1;
    list.hidden = found.length === 0;
    field.setAttribute("aria-expanded", String(found.length > 0));
  };
  field.addEventListener("input", () => {
    go(address("images", changed(current().query, { search: field.value.trim() || null })), true);
    void suggest();
  });
  field.addEventListener("keydown", (event) => {
    const option = list.children[at];
    if (event.key === "ArrowDown" && !list.hidden) select(at + 1);
    else if (event.key === "ArrowUp" && !list.hidden) select(at - 1);
    else if (event.key === "Enter") { if (option instanceof HTMLElement && option.dataset.href) go(option.dataset.href); close(); }
    else if (event.key === "Escape" && !list.hidden) { close(); event.stopPropagation(); }
    else return;
    event.preventDefault();
  });
  field.addEventListener("blur", close);
  return make("div", { class: "searching" }, make("label", { class: "hidden", for: "search" }, "Search images"), make("div", { class: "box" }, glass, field, make("kbd", { "aria-hidden": "true" }, "/")), list);
}
