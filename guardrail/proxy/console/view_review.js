// The review queue: one decision after another, by keyboard or by mouse.
import { get, post, remove } from "./api.js";
import { alarm, fill, h, say } from "./dom.js";
import { badge, chance, clock, title } from "./format.js";
import { countWaiting } from "./queue.js";
import { reviewerField } from "./reviewer.js";
import { explained } from "./text_view.js";
import { scoreBars } from "./view_detail.js";

export async function review(main, state) {
  if (!state.audit) {
    fill(main, h("h1", {}, "Review"), h("p", { class: "card empty" }, "There is no audit: guardrail serve runs with --audit none."));
    return null;
  }
  let waiting = [], at = 0, last = null, busy = false, marker = null, boxes = [], shown = null;
  const list = h("ol", { class: "review-list", "aria-label": "Decisions that wait" });
  const item = h("section", { class: "card stack", "aria-live": "polite" });
  const name = reviewerField();

  async function load() {
    waiting = (await get("/api/decisions", { review: 1, labelled: 0, limit: 100 })).decisions;
    at = Math.min(at, Math.max(waiting.length - 1, 0));
    await draw();
  }

  async function draw() {
    fill(list, waiting.map((one, i) => h("li", {}, h("button", {
      type: "button", "aria-current": i === at ? "true" : null, on: { click: () => { at = i; draw(); } },
    }, badge(one.action), ` ${one.in_band.map(([key, p]) => `${title(key)} ${chance(p)}`).join(", ")}`,
    h("br"), h("span", { class: "quiet" }, one.snippet || clock(one.time))))));
    marker = shown = null;
    if (!waiting.length) {
      const bands = state.rules.filter((rule) => rule.review).length;
      fill(item, h("p", { class: "empty" }, bands ? "Nothing waits for review."
        : "No rule of the policy in force has a review band; give one 'review: [0.3, 0.6]'."));
      return;
    }
    const { id } = waiting[at];
    const one = await get(`/api/decisions/${encodeURIComponent(id)}`);
    if (waiting[at]?.id !== id) return;  // the person has moved on meanwhile
    shown = one;
    const found = (one.detail.findings || []).filter((finding) => finding[5]);
    const keys = found.map(([key]) => key);
    const text = one.text_form === "plain" && one.text !== null ? explained(one.text, one.role, one.prompt, keys, keys[0], "m") : null;
    marker = text;
    boxes = found.map(([key, action, p]) => h("label", {}, h("input", { type: "checkbox", value: key, checked: true }),
      h("span", {}, `${title(key)} ${chance(p)}: the decision was to ${action}; approve means that it `,
        h("b", {}, action === "pass" ? "does not violate." : "violates."))));
    fill(item,
      h("h2", {}, badge(one.action, one.enforced), ` ${keys.map(title).join(", ")}`),
      h("fieldset", {}, h("legend", {}, "In the review band"), boxes),
      one.prompt ? h("p", { class: "quiet" }, "Before it: ", one.prompt) : null,
      text ? text.parts : h("p", { class: "quiet" }, one.text_form === "hash"
        ? `The policy keeps only a keyed hash of the text: ${one.text}. Find it by the request id ${one.request_id}.`
        : `The text is not at hand (kept as ${one.text_form}). Find it by the request id ${one.request_id}.`),
      h("div", { class: "bar" },
        key("a", "Approve", () => answer("approve")), key("o", "Overturn", () => answer("overturn")),
        key("j", "Next", () => move(1)), key("k", "Previous", () => move(-1)),
        key("u", "Undo", undo, !last)),
      h("p", {}, h("a", { href: `#/decision/${encodeURIComponent(one.id)}` }, "All facts"), ` · ${clock(one.time)} · ${one.direction}`),
      scoreBars(one.detail.scores || {}, 5));
  }

  const key = (letter, label, act, disabled = false) =>
    h("button", { type: "button", disabled, "aria-keyshortcuts": letter, on: { click: act } }, label, " ", h("kbd", {}, letter));

  async function move(step) {
    if (!waiting.length) return;
    at = (at + step + waiting.length) % waiting.length;
    await draw();
  }

  async function answer(said) {
    if (!shown || busy) return;  // nobody judges what is not in view yet
    if (!name.value()) { alarm("Who reviews? Write your name first."); name.focus(); return; }
    const categories = boxes.map((label) => label.querySelector("input")).filter((box) => box.checked).map((box) => box.value);
    if (!categories.length) { alarm("Choose at least one category."); return; }
    busy = true;
    try {
      const one = shown;
      await post(`/api/decisions/${encodeURIComponent(one.id)}/answer`, { answer: said, reviewer: name.value(), categories, seen: one.time });
      last = one.id;
      waiting = waiting.filter(({ id }) => id !== one.id);
      at = Math.min(at, Math.max(waiting.length - 1, 0));
      say(`${said === "approve" ? "Approved" : "Overturned"}; ${waiting.length} left`);
      alarm("");
      await draw();
      await countWaiting(state);
    } catch (error) {
      alarm(error.message);
      await draw().catch(() => {});
    }
    busy = false;
  }

  async function undo() {
    if (!last) return;
    await remove(`/api/decisions/${encodeURIComponent(last)}/answer`);
    last = null;
    say("Taken back");
    await load();
  }

  const ACTS = { a: () => answer("approve"), o: () => answer("overturn"), j: () => move(1), k: () => move(-1), u: undo, m: () => marker?.run() };
  const typed = (event) => {
    const inField = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (inField || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const act = ACTS[event.key.toLowerCase()];
    if (act) { event.preventDefault(); act(); }
  };
  addEventListener("keydown", typed);
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Review"), h("span", { class: "grow" }), name.field),
    h("div", { class: "two" }, h("section", { class: "card" }, h("h2", {}, "Waiting"), list), item));
  await load();
  return () => removeEventListener("keydown", typed);
}
