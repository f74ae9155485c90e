// @ts-check
// Numbers, sizes and times as people read them. The exact value is the title of the element.
import { make } from "./dom.js";

const WHOLE = new Intl.NumberFormat("en");
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** @param {number} count */
export const number = (count) => WHOLE.format(count);

/**
 * A count with its noun, such as `1 image` or `2 images`.
 * @param {number} count
 * @param {string} noun
 */
export const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

/** @param {string} time */
export const day = (time) => DATE.format(new Date(time));

/**
 * A day, with the exact time as its title.
 * @param {string | null | undefined} time
 */
export const date = (time) => (time ? make("time", { datetime: time, title: time }, day(time)) : "–");

/** @param {number} count */
export function bytes(count) {
  let unit = 0;
  let size = count;
  while (size >= 1024 && unit < UNITS.length - 1) { size /= 1024; unit += 1; }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${UNITS[unit]}`;
}

/**
 * A size, with the number of bytes as its title.
 * @param {number | null | undefined} count
 */
export const size = (count) => (count === null || count === undefined ? "–" : make("span", { title: `${number(count)} bytes` }, bytes(count)));

/**
 * A duration in its largest unit, such as `3 h`.
 * @param {number} seconds
 */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return `${whole} s`;
  if (whole < 5400) return `${Math.round(whole / 60)} min`;
  if (whole < 48 * 3600) return `${Math.round(whole / 3600)} h`;
  return `${Math.round(whole / 86400)} days`;
}

/**
 * The time since then, such as `3 h ago`.
 * @param {string} time
 */
export const ago = (time) => `${span((Date.now() - Date.parse(time)) / 1000)} ago`;

/** @type {Record<string, string>} */
const TONES = { active: "good", scheduled: "warn", deprecated: "bad", "end-of-life": "bad", gone: "bad", complete: "good", partial: "warn", failed: "bad", denied: "bad", carried: "warn" };

/**
 * The status of an image or a run, coloured, with the date at which it changes.
 * @param {string} status
 * @param {string | null | undefined} [ends]
 */
export function pill(status, ends) {
  const text = status === "scheduled" && ends ? `ends ${day(ends)}` : status;
  return make("span", { class: `pill ${TONES[status] ?? ""}`, title: ends ? `${status}: ${ends}` : status }, text);
}
