// @ts-check
// A map of rectangles whose areas are proportional to sizes.
import { draw } from "./dom.js";

/**
 * @typedef {object} Area
 * @property {string} name
 * @property {number} size
 * @property {string} title what a pointer shows
 * @property {string} href
 * @property {number} [share] the part of it that is shared with others, from 0 to 1
 */

const [WIDTH, HEIGHT] = [960, 240];

/**
 * Divides a rectangle among areas: halves by size, along the longer side.
 * @param {Area[]} areas most first
 * @param {{ x: number, y: number, width: number, height: number }} within
 * @returns {{ area: Area, x: number, y: number, width: number, height: number }[]}
 */
function divide(areas, within) {
  const [only] = areas;
  if (!only) return [];
  if (areas.length === 1) return [{ area: only, ...within }];
  const all = areas.reduce((sum, area) => sum + area.size, 0);
  let [at, sum] = [1, only.size];
  while (at < areas.length - 1 && sum + (areas[at]?.size ?? 0) <= all / 2) { sum += areas[at]?.size ?? 0; at += 1; }
  const part = all > 0 ? sum / all : at / areas.length;
  const { x, y, width, height } = within;
  const [one, other] = width > height
    ? [{ x, y, width: width * part, height }, { x: x + width * part, y, width: width * (1 - part), height }]
    : [{ x, y, width, height: height * part }, { x, y: y + height * part, width, height: height * (1 - part) }];
  return [...divide(areas.slice(0, at), one), ...divide(areas.slice(at), other)];
}

/**
 * Draws a map. The shared part of an area is pale.
 * @param {Area[]} areas
 * @param {string} label
 */
export function treemap(areas, label) {
  const sorted = areas.filter((area) => area.size > 0).sort((one, other) => other.size - one.size);
  const shapes = divide(sorted, { x: 0, y: 0, width: WIDTH, height: HEIGHT }).map(({ area, x, y, width, height }) => {
    const shared = height * (area.share ?? 0);
    const text = width > area.name.length * 6.5 + 8 && height > 18 ? draw("text", { x: x + 5, y: y + 14 }, area.name) : null;
    return draw("a", { href: area.href, "aria-label": area.title }, draw("rect", { x, y, width, height: height - shared }), shared > 0 && draw("rect", { class: "shared", x, y: y + height - shared, width, height: shared }), text, draw("title", {}, area.title));
  });
  return draw("svg", { class: "tree", width: "100%", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": label }, ...shapes);
}
