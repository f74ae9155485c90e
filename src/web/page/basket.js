// @ts-check
// The images that the user collects for a comparison. They are kept for the tab.
import { make, toast } from "./dom.js";
import { address } from "./route.js";

const KEY = "azimg-compare";
const MOST = 8;

/** @returns {string[]} */
function ids() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((id) => typeof id === "string").slice(0, MOST) : [];
  } catch {
    return [];
  }
}

/**
 * A button that adds an image to the comparison or removes it, and a link to the comparison once
 * it has two images.
 * @param {string} id
 */
export function basket(id) {
  const place = make("span", {});
  const draw = () => {
    const kept = ids();
    const has = kept.includes(id);
    const change = () => {
      if (!has && kept.length >= MOST) {
        toast(`A comparison has at most ${MOST} images`);
        return;
      }
      sessionStorage.setItem(KEY, JSON.stringify(has ? kept.filter((one) => one !== id) : [...kept, id]));
      draw();
    };
    const button = make("button", { type: "button", "aria-pressed": String(has), onclick: change }, has ? "Remove from comparison" : "Add to comparison");
    const link = kept.length > 1 ? make("a", { href: address("compare", { id: kept }) }, `compare ${kept.length} images`) : null;
    const isFocused = place.contains(document.activeElement);
    place.replaceChildren(button, " ", link ?? "");
    if (isFocused) button.focus();
  };
  draw();
  return place;
}
