// @ts-check
// The command line that gives the same answer as a page.
import { copyButton, make } from "./dom.js";

/** Parameters of the API that no command has as an option. */
const NOT_OPTIONS = new Set(["skipToken", "facets", "count"]);

/**
 * Quotes an argument for a POSIX shell.
 * @param {string} text
 */
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/**
 * The command with these parameters as options.
 * @param {string} command
 * @param {URLSearchParams} query
 */
export function commandLine(command, query) {
  const words = [command];
  for (const [name, value] of query) {
    if (NOT_OPTIONS.has(name)) continue;
    const option = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    if (value === "true") words.push(option);
    else if (value !== "false") words.push(option, quoted(value));
  }
  return words.join(" ");
}

/**
 * A command line with a button that copies it.
 * @param {string} line
 */
export function commandBar(line) {
  return make("div", { class: "command" }, make("code", { tabindex: 0, "aria-label": "The same on the command line" }, line), copyButton(() => line, "Copy", "Copy the command line"));
}
