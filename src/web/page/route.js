// @ts-check
// The address of a state of the page: `#/images?search=ubuntu&location=westeurope`. The names of
// its parameters are those of the HTTP API.

/**
 * @typedef {object} Route
 * @property {string} page the page's name
 * @property {URLSearchParams} query its parameters
 */

/**
 * Reads the current address.
 * @returns {Route}
 */
export function current() {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { page: path || "images", query: new URLSearchParams(query) };
}

/**
 * The address of a page. Parameters without a value are left out.
 * @param {string} page
 * @param {URLSearchParams | Record<string, string | string[] | null | undefined>} [query]
 */
export function address(page, query = {}) {
  const parameters = new URLSearchParams();
  const entries = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  for (const [name, value] of entries) {
    for (const one of Array.isArray(value) ? value : [value]) if (one) parameters.append(name, one);
  }
  const text = parameters.toString();
  return `#/${page}${text ? `?${text}` : ""}`;
}

/**
 * A copy of parameters with some of them replaced or, with null, removed. The page of a list is
 * always removed, since it belongs to the parameters that were before.
 * @param {URLSearchParams} query
 * @param {Record<string, string | string[] | null>} changes
 */
export function changed(query, changes) {
  const parameters = new URLSearchParams(query);
  parameters.delete("skipToken");
  for (const [name, value] of Object.entries(changes)) {
    parameters.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) if (one) parameters.append(name, one);
  }
  return parameters;
}

/**
 * The values of a parameter, which may be repeated or a list with commas.
 * @param {URLSearchParams} query
 * @param {string} name
 */
export const values = (query, name) => query.getAll(name).flatMap((text) => text.split(",")).filter(Boolean);

/**
 * Goes to an address. While a user types, the entry of the browser's history is replaced.
 * @param {string} to
 * @param {boolean} [replaces]
 */
export function go(to, replaces = false) {
  if (to === location.hash) return;
  if (!replaces) { location.hash = to; return; }
  history.replaceState(null, "", to);
  dispatchEvent(new HashChangeEvent("hashchange"));
}
