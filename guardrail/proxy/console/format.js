// How values are shown, the same everywhere.
import { h } from "./dom.js";

export const number = (value) => Number(value).toLocaleString("en");
export const chance = (value) => (value === null || value === undefined ? "–" : Number(value).toFixed(3));
export const share = (value) => (value === null || Number.isNaN(value) ? "–" : `${(100 * value).toFixed(1)} %`);
export const ms = (value) => (value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${Number(value).toFixed(1)} ms`);

/** A time of the server, in the reader's zone. */
export function clock(iso) {
  const date = new Date(iso);
  const two = (n) => String(n).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export const badge = (action, enforced = true) =>
  h("span", { class: `badge ${action}` }, action + (enforced ? "" : " (monitor)"));

let titles = {};
export function setTitles(found) { titles = found; }
export const title = (category) => titles[category] || category.replaceAll("_", " ");

/** A table of decisions. */
export function decisionTable(caption, decisions) {
  return h("div", { class: "scroll" }, h("table", {},
    h("caption", {}, caption),
    h("thead", {}, h("tr", {},
      ["Time", "Action", "Direction", "Category"].map((name) => h("th", { scope: "col" }, name)),
      h("th", { scope: "col", class: "number" }, "Probability"),
      ["Why", "API", "Text"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, decisions.map(row))));
}

function row(one) {
  const why = one.outcome === "scanned" ? one.reason || "–" : `${one.outcome}: ${one.reason || "–"}`;
  return h("tr", { "data-id": one.id },
    h("td", { class: "time" }, h("a", { href: `#/decision/${encodeURIComponent(one.id)}` }, clock(one.time))),
    h("td", {}, badge(one.action, one.enforced), one.review ? [" ", h("span", { class: "badge review" }, "review")] : null),
    h("td", {}, one.direction),
    h("td", {}, one.category ? title(one.category) : "–"),
    h("td", { class: "number" }, chance(one.probability)),
    h("td", {}, why),
    h("td", {}, one.dialect || "in process"),
    h("td", { class: "snippet" }, one.snippet || (one.text_form === "none" ? "not kept" : `kept as ${one.text_form}`)));
}
