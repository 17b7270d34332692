// The policy playground: a text, its probabilities, thresholds to drag, and what they cost.
import { get, post } from "./api.js";
import { alarm, fill, h, say } from "./dom.js";
import { precisionRecall } from "./charts.js";
import { badge, chance, number, share, title } from "./format.js";
import { at, curve } from "./measure.js";
import { explained } from "./text_view.js";

const ROLES = { user: "a user's request", assistant: "an assistant's answer", tool: "a tool's result", text: "any text" };

export async function playground(main, state) {
  const rules = new Map(state.rules.map((rule) => [rule.category, { ...rule }]));
  const data = new Map();
  let scores = null, asked = [], chosen = state.rules.find((rule) => state.calibrated.includes(rule.category))?.category || state.rules[0]?.category;
  const text = h("textarea", { id: "play-text", maxlength: 8000 });
  const prompt = h("input", { maxlength: 8000 });
  const role = h("select", {}, Object.entries(ROLES).map(([key, words]) => h("option", { value: key }, words)));
  const result = h("section", { class: "card stack", "aria-live": "polite" }, h("p", { class: "empty" }, "Paste a text and score it."));
  const panel = h("section", { class: "card stack" });
  const snippet = h("pre", { class: "code", tabindex: "0", "aria-label": "Changed thresholds as YAML" });
  const go = h("button", { class: "main", type: "submit" }, "Score");

  async function score(event) {
    event.preventDefault();
    if (!text.value.trim()) return;
    go.disabled = true;
    try {
      const found = await post("/api/score", { text: text.value, role: role.value, prompt: prompt.value });
      scores = found.scores;
      asked = found.asked;
      const likeliest = Object.keys(scores).filter((key) => rules.has(key)).sort((a, b) => margin(b) - margin(a))[0];
      if (likeliest) await choose(likeliest);
      drawResult();
      say(`The policy would ${verdict()}.`);
      alarm("");
    } catch (error) { alarm(error.message); }
    go.disabled = false;
  }

  const margin = (key) => (scores[key] || 0) - (rules.get(key).flag ?? rules.get(key).block ?? 1);

  function action(rule, p) {
    if (p === undefined) return "pass";
    if (rule.block !== null && p >= rule.block) return rule.action;
    if (rule.flag !== null && p >= rule.flag) return rule.action === "pass" ? "pass" : "flag";
    return "pass";
  }

  function verdict() {
    const way = role.value === "assistant" ? "output" : "input";
    const found = [...rules.values()].filter((rule) => rule.directions.includes(way)).map((rule) => action(rule, scores[rule.category]));
    return ["block", "redact", "flag"].find((one) => found.includes(one)) || "pass";
  }

  function drawResult() {
    if (!scores) return;
    const rows = [...rules.values()].filter((rule) => rule.category in scores).sort((a, b) => scores[b.category] - scores[a.category]).slice(0, 12);
    const marker = explained(text.value, role.value, prompt.value, rows.map((rule) => rule.category), chosen);
    fill(result, h("h2", {}, "With these thresholds: ", badge(verdict())),
      h("div", { class: "scores" }, rows.map((rule) => {
        const p = scores[rule.category], act = action(rule, p);
        const bar = h("div", { class: `fill ${act}` });
        bar.style.width = `${100 * p}%`;
        const ticks = ["flag", "block"].filter((kind) => rule[kind] !== null).map((kind) => {
          const tick = h("div", { class: `tick ${kind}` });
          tick.style.left = `${100 * rule[kind]}%`;
          return tick;
        });
        return [h("button", { type: "button", "aria-pressed": String(rule.category === chosen), on: { click: () => choose(rule.category) } }, title(rule.category)),
          h("div", { class: "track" }, bar, ticks), h("output", {}, chance(p))];
      })),
      asked.map(([key, guard, before, after, reason]) => h("p", { class: "quiet", "data-guard": guard },
        `${title(key)}: ${chance(before)} lay in the band, so '${guard}' was asked: ${after === null ? `no answer (${reason})` : chance(after)}.`)),
      marker.parts);
  }

  async function choose(category) {
    chosen = category;
    if (state.calibrated.includes(category) && !data.has(category)) {
      data.set(category, await get(`/api/calibration/${encodeURIComponent(category)}`));
    }
    drawPanel();
    drawResult();
  }

  function drawPanel() {
    const rule = rules.get(chosen), found = data.get(chosen);
    if (!rule) { fill(panel, h("p", { class: "empty" }, "The policy has no rules.")); return; }
    const figures = h("div", { class: "stack" });
    const measure = () => {
      const marks = ["flag", "block"].filter((kind) => rule[kind] !== null).map((kind) => ({ kind, ...(found ? at(found, rule[kind]) : {}) }));
      fill(figures, found ? [
        h("div", { class: "scroll" }, h("table", {}, h("caption", {}, `On ${number(found.positive.length)} violating and ${number(found.negative.length)} other labelled texts (${found.source})`),
          h("thead", {}, h("tr", {}, ["", "Precision", "Recall", "False alarms"].map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, marks.map((mark) => h("tr", {}, h("th", { scope: "row" }, badge(mark.kind)),
            h("td", { "data-measure": `${mark.kind}-precision` }, `${share(mark.precision)} (${mark.caught} of ${mark.caught + mark.strays})`),
            h("td", { "data-measure": `${mark.kind}-recall` }, `${share(mark.recall)} (${mark.caught})`),
            h("td", {}, `${share(mark.fpr)} (${mark.strays})`)))))),
        precisionRecall(title(chosen), curve(found), marks),
      ] : h("p", { class: "quiet" }, "The model comes without labelled data for this category, so there is nothing to measure on."));
      fill(snippet, yaml());
    };
    const slider = (kind) => {
      const value = h("span", {}, chance(rule[kind]));  // an output would take the label for itself
      const input = h("input", { type: "range", min: 0, max: 1, step: 0.005, value: rule[kind], "data-kind": kind,
        on: { input: () => { rule[kind] = Number(input.value); value.textContent = chance(rule[kind]); measure(); drawResult(); } } });
      return h("label", {}, h("span", {}, `${kind === "flag" ? "Flag" : "Block"} from `, value), input);
    };
    const picker = h("select", { on: { change: () => choose(picker.value) } },
      [...rules.keys()].map((key) => h("option", { value: key, selected: key === chosen }, title(key))));
    fill(panel, h("h2", {}, "Thresholds"), h("label", {}, "Category", picker),
      h("p", { class: "quiet" }, rule.definition),
      ["flag", "block"].filter((kind) => rule[kind] !== null).map(slider), figures);
    measure();
  }

  function yaml() {
    const lines = [];
    for (const original of state.rules) {
      const rule = rules.get(original.category);
      const changed = ["flag", "block"].filter((kind) => rule[kind] !== original[kind]);
      if (changed.length) lines.push(`  ${original.category}: {${changed.map((kind) => `${kind}: ${rule[kind]}`).join(", ")}}`);
    }
    return lines.length ? ["categories:", ...lines].join("\n") : "# drag a threshold to change it";
  }

  fill(main, h("h1", {}, "Playground"),
    h("p", { class: "quiet" }, "Nothing here is recorded, and nothing changes the policy in force. Where a rule is unsure, its guard is asked as for traffic, and sees the text."),
    h("div", { class: "two" },
      h("div", { class: "stack" },
        h("form", { class: "card stack", on: { submit: score } },
          h("label", { for: "play-text" }, "Text"), text,
          h("div", { class: "bar" }, h("label", {}, "It is", role), h("label", {}, "The user turn before it", prompt), go)),
        result),
      h("div", { class: "stack" }, panel,
        h("section", { class: "card stack" }, h("h2", {}, "For the policy file"), snippet))));
  if (chosen) await choose(chosen);
}
