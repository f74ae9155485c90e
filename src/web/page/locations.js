// @ts-check
// Locations of the catalog, grouped by geography; and where an image is available among them.
import { get } from "./api.js";
import { draw, make } from "./dom.js";
import { ago } from "./format.js";

/**
 * @typedef {object} Place
 * @property {string} location
 * @property {string | null} [displayName]
 * @property {string | null} [geography]
 * @property {string | null} [listedAt] when its marketplace images were last listed completely
 * @property {number} marketplace
 */

/** @type {Promise<Map<string, Place[]>> | undefined} */
let known;

/**
 * The locations of the catalog by geography. Requested once, since a snapshot does not change; the
 * answer of a failed request is not kept.
 * @returns {Promise<Map<string, Place[]>>}
 */
export function places() {
  known ??= get("locations", { top: 1000 }).then((answer) => {
    /** @type {Map<string, Place[]>} */
    const groups = new Map();
    for (const place of answer.value) {
      const group = place.geography ?? "Other";
      groups.set(group, [...(groups.get(group) ?? []), place]);
    }
    return new Map([...groups].sort(([one], [other]) => one.localeCompare(other)));
  }, (error) => { known = undefined; throw error; });
  return known;
}

/** Forgets the locations, because a newer snapshot is served. */
export function forgetPlaces() { known = undefined; }

/**
 * @param {Place} place
 * @param {Set<string>} available where any version is
 * @param {Set<string>} latest where the latest version is
 */
function stateAt(place, available, latest) {
  if (latest.has(place.location)) return "there";
  if (available.has(place.location)) return "older";
  return place.listedAt === null ? "unknown" : "absent";
}

/**
 * Draws one cell for each location: dark with the latest version, pale with an older one, empty
 * where the image is absent, an outline where the location was not listed.
 * @param {Map<string, Place[]>} groups
 * @param {string[]} inLocations
 * @param {string[]} latestIn
 */
export function strip(groups, inLocations, latestIn) {
  const [available, latest] = [new Set(inLocations), new Set(latestIn)];
  /** @type {Record<string, string>} */
  const paths = { there: "", older: "", absent: "", unknown: "" };
  let x = 0;
  let all = 0;
  for (const group of groups.values()) {
    for (const place of group) {
      paths[stateAt(place, available, latest)] += `M${x} 0h5v16h-5z`;
      x += 6;
      all += 1;
    }
    x += 4;
  }
  const shapes = Object.entries(paths).filter(([, path]) => path).map(([state, path]) => draw("path", { class: `s-${state}`, d: path }));
  const older = inLocations.length - latestIn.length;
  const label = `available in ${inLocations.length} of ${all} locations${older > 0 && latestIn.length > 0 ? `, in ${older} of them without the latest version` : ""}`;
  const width = Math.max(x - 4, 6);
  return make("div", { class: "strip" }, draw("svg", { width, height: 16, viewBox: `0 0 ${width} 16`, role: "img", "aria-label": label }, ...shapes), make("small", {}, `${inLocations.length} / ${all}`));
}

const MEANING = { there: "latest version", older: "only an older version", absent: "not available", unknown: "not listed yet" };

/**
 * All locations by geography, with the state of an image in each.
 * @param {Map<string, Place[]>} groups
 * @param {string[]} inLocations
 * @param {string[]} latestIn
 */
export function placesPanel(groups, inLocations, latestIn) {
  const [available, latest] = [new Set(inLocations), new Set(latestIn)];
  const lists = [...groups].map(([name, group]) => {
    const items = group.map((place) => {
      const state = /** @type {keyof typeof MEANING} */ (stateAt(place, available, latest));
      const title = `${place.displayName ?? place.location}: ${MEANING[state]}${place.listedAt ? `, listed ${ago(place.listedAt)}` : ""}`;
      return make("li", { class: state, title }, place.location, make("span", { class: "hidden" }, `: ${MEANING[state]}`));
    });
    return make("div", {}, make("h3", {}, name), make("ul", {}, items));
  });
  return make("div", { class: "places" }, lists);
}
