// @ts-check
// Pages of a list, which the API gives one after the other.
import { address } from "./route.js";

/** The addresses of the pages before a page, in this tab. @type {Map<string, string>} */
const before = new Map();

/**
 * The token of the next page, from the link in an answer.
 * @param {{ nextLink?: string }} answer
 */
export const nextToken = (answer) => (answer.nextLink ? new URL(answer.nextLink, location.href).searchParams.get("skipToken") : null);

/**
 * The addresses of the pages around this one.
 * @param {string} page
 * @param {URLSearchParams} query
 * @param {{ nextLink?: string }} answer
 * @returns {{ before: string | null, after: string | null }}
 */
export function around(page, query, answer) {
  const here = address(page, query);
  const token = nextToken(answer);
  let after = null;
  if (token) {
    const next = new URLSearchParams(query);
    next.set("skipToken", token);
    after = address(page, next);
    before.set(after, here);
  }
  if (!query.has("skipToken")) return { before: null, after };
  const first = new URLSearchParams(query);
  first.delete("skipToken");
  return { before: before.get(here) ?? address(page, first), after };
}
