// @ts-check
// Requests to the HTTP API. The page uses nothing that another program cannot request.
import { make } from "./dom.js";

const KEY = "azimg-key";

/** The address of the API, which the server writes into the page. */
const BASE = new URL(document.querySelector("meta[name=azimg-api]")?.getAttribute("content") ?? "../api/", document.baseURI);

/** An error that the API reported, or the reason why there was no answer. */
export class ApiError extends Error {
  /**
   * @param {number} status the HTTP status; 0 if there was no answer
   * @param {string} code
   * @param {string} message
   */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * The URL of a request.
 * @param {string} path
 * @param {URLSearchParams | Record<string, any>} [query]
 */
export function url(path, query = {}) {
  const target = new URL(path, BASE);
  const entries = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  for (const [name, value] of entries) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") target.searchParams.append(name, String(one));
    }
  }
  return target;
}

/** @type {Promise<boolean> | undefined} */
let asking;

/** Asks for a function key, which is kept for this tab only. Returns whether one was given. */
function askForKey() {
  asking ??= new Promise((resolve) => {
    const field = make("input", { type: "password", name: "key", required: true, autocomplete: "off", "aria-label": "Function key" });
    const form = make("form", { method: "dialog" }, field, make("button", { class: "main", type: "submit", value: "use" }, "Use it"), make("button", { type: "submit", value: "cancel", formnovalidate: true }, "Cancel"));
    const dialog = make("dialog", { "aria-label": "Function key" }, make("h2", {}, "This needs a function key"), make("p", {}, "The function app requires a key, or this question is asked of Azure. The key is kept until this tab is closed, and sent to this address only."), form);
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "use" && field.value !== "";
      if (given) sessionStorage.setItem(KEY, field.value);
      dialog.remove();
      asking = undefined;
      resolve(given);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

/**
 * Requests a document. Rejects with an {@link ApiError}, or an `AbortError` if `signal` was aborted.
 * @param {string} path
 * @param {URLSearchParams | Record<string, any>} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function get(path, query, signal) {
  const target = url(path, query);
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    let response;
    try {
      response = await fetch(target, { signal, headers: key ? { "x-functions-key": key } : {} });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0, "Offline", "The catalog does not answer. Check that azimg is running and that this machine is online.");
    }
    const text = await response.text();
    if (response.ok) return JSON.parse(text);
    if (response.status === 401) {
      if (key) sessionStorage.removeItem(KEY);
      if (await askForKey()) continue;
    }
    throw failure(response.status, text);
  }
}

/**
 * @param {number} status
 * @param {string} text
 */
function failure(status, text) {
  try {
    const { code, message } = JSON.parse(text).error;
    return new ApiError(status, code, message);
  } catch {
    const known = status === 401 ? "The function key is missing or wrong." : `The server answered with status ${status}.`;
    return new ApiError(status, String(status), known);
  }
}
