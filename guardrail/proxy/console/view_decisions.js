// The table of decisions, with filters and pages.
import { get } from "./api.js";
import { alarm, choose, fill, h, say } from "./dom.js";
import { decisionTable, title } from "./format.js";

const ANY = ["", "any"];
const CHOICES = {
  action: [ANY, ["block", "block"], ["redact", "redact"], ["flag", "flag"], ["pass", "pass"]],
  direction: [ANY, ["input", "input"], ["output", "output"]],
  outcome: [ANY, ["scanned", "scanned"], ["failed", "failed"], ["truncated", "truncated"], ["skipped", "skipped"]],
  review: [ANY, ["1", "in the band"], ["0", "not in the band"]],
  labelled: [ANY, ["1", "answered"], ["0", "unanswered"]],
};
const NAMES = { action: "Action", direction: "Direction", outcome: "Outcome", review: "Review", labelled: "Answer" };
let filters = {};

export async function decisions(main, state) {
  const table = h("div", {});
  const categories = [ANY, ...Object.keys(state.titles).map((key) => [key, title(key)])];
  for (const rule of state.rules) {
    if (!(rule.category in state.titles)) categories.push([rule.category, title(rule.category)]);
  }
  const set = (name) => (value) => { filters = { ...filters, [name]: value }; page(); };
  const typed = (name, label, attributes) => h("label", {}, label, h("input", {
    value: filters[name] || "", on: { change: (event) => set(name)(event.target.value) }, ...attributes,
  }));
  const since = h("input", { type: "datetime-local", on: { change: (event) => set("since")(event.target.value ? new Date(event.target.value).toISOString() : "") } });

  async function page(before) {
    try {
      const found = await get("/api/decisions", { ...filters, before, limit: 50 });
      const older = h("button", { type: "button", disabled: !found.next, on: { click: () => page(found.next) } }, "Older");
      const newest = h("button", { type: "button", disabled: !before, on: { click: () => page() } }, "Newest");
      fill(table, found.decisions.length
        ? decisionTable(`${found.decisions.length} decisions, the newest first`, found.decisions)
        : h("p", { class: "empty" }, "No decision fits these filters."),
      h("div", { class: "bar" }, newest, older));
      say(`${found.decisions.length} decisions`);
      alarm("");
    } catch (error) { alarm(error.message); }
  }

  fill(main, h("h1", {}, "Decisions"),
    h("form", { class: "card bar", "aria-label": "Filters", on: { submit: (event) => event.preventDefault() } },
      Object.entries(CHOICES).map(([name, options]) => choose(NAMES[name], options, filters[name] || "", set(name))),
      choose("Category", categories, filters.category || "", set("category")),
      typed("least", "Least probability", { type: "number", min: 0, max: 1, step: 0.01 }),
      h("label", {}, "Since", since),
      typed("request_id", "Request id", { type: "search", size: 18 })),
    h("section", { class: "card stack" }, table));
  await page();
}
