// Who reviews: asked once, remembered by this browser.
import { h } from "./dom.js";

const KEY = "guardrail-reviewer";

export function reviewerField() {
  const input = h("input", { value: localStorage.getItem(KEY) || "", maxlength: 80, autocomplete: "name", required: true,
    on: { change: () => localStorage.setItem(KEY, input.value.trim()) } });
  return { field: h("label", {}, "Reviewer", input), value: () => input.value.trim(), focus: () => input.focus() };
}
