// @ts-check
// An image in the languages that deploy it, as the API writes them.
import { ApiError, get } from "./api.js";
import { copyButton, make } from "./dom.js";

const CHOSEN = "azimg-language";

/**
 * A panel with one tab for each language; null if no language fits the image.
 * @param {{ id: string }} image
 * @param {AbortSignal} signal
 */
export async function snippets(image, signal) {
  const answer = await get(`images/${image.id.replace(/^\//, "").split("/").map(encodeURIComponent).join("/")}/snippets`, {}, signal).catch((error) => {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  });
  if (!answer || answer.value.length === 0) return null;
  const text = make("pre", { tabindex: 0, id: "snippet", role: "tabpanel" });
  let shown = answer.value.find((/** @type {any} */ one) => one.as === localStorage.getItem(CHOSEN)) ?? answer.value[0];
  const tabs = answer.value.map((/** @type {any} */ one) => make("button", { type: "button", role: "tab", "aria-controls": "snippet", "data-as": one.as, onclick: () => choose(one) }, one.title));
  const choose = (/** @type {any} */ one) => {
    shown = one;
    localStorage.setItem(CHOSEN, one.as);
    text.textContent = one.text;
    text.setAttribute("aria-label", one.title);
    for (const tab of tabs) {
      const is = tab.dataset.as === one.as;
      tab.setAttribute("aria-selected", String(is));
      tab.tabIndex = is ? 0 : -1;
    }
  };
  const list = make("div", { class: "tabs", role: "tablist", "aria-label": "Languages", onkeydown: (/** @type {KeyboardEvent} */ event) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (by === 0) return;
    const at = (answer.value.indexOf(shown) + by + answer.value.length) % answer.value.length;
    choose(answer.value[at]);
    tabs[at].focus();
    event.preventDefault();
  } }, tabs);
  choose(shown);
  return make("div", { class: "panel" }, make("h2", {}, "Deploy it ", copyButton(() => shown.text, "Copy", "Copy the code")), list, text, answer.notes.map((/** @type {string} */ note) => make("p", { class: "sub" }, note)));
}
