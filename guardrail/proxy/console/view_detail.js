// One decision: its facts, its probabilities against the thresholds, its text.
import { get, post, remove } from "./api.js";
import { alarm, fill, h, say } from "./dom.js";
import { badge, chance, clock, ms, number, title } from "./format.js";
import { reviewerField } from "./reviewer.js";
import { explained } from "./text_view.js";

export async function detail(main, state, id) {
  const one = await get(`/api/decisions/${encodeURIComponent(id)}`);
  const facts = [
    ["Time", clock(one.time)], ["Request", one.request_id], ["Route", one.route || "in process"],
    ["API, model asked for", [one.dialect, one.llm].filter(Boolean).join(", ") || "–"],
    ["Key", one.client || "–"], ["What", `${one.direction}, ${one.channel} by ${one.role}`],
    ["Decided by", one.decided_by || "–"],
    ["Why", one.category ? `${title(one.category)}: ${one.reason}, ${chance(one.probability)} against ${chance(one.threshold)}` : one.reason || "nothing was found"],
    ["Outcome", one.outcome + (one.final ? "" : " (the answer goes on, or was cut by a crash)")],
    ["Judged", `${number(one.scanned_chars)} of ${number(one.total_chars)} characters, ${number(one.tokens)} tokens; checks: ${one.checks}`],
    ["Times", `slowest check ${ms(one.check_ms)}, since the request ${ms(one.total_ms)}, held ${ms(one.held_ms)}`],
    ["Policy", one.policy], ["Model", one.model], ["Ended", one.ended || "–"],
  ];
  if (one.detail.skipped) facts.push(["Not judged", one.detail.skipped.join("; ")]);
  for (const [category, kind, name] of one.detail.evidence || []) facts.push(["Evidence", `${title(category || "text")}: ${kind} ${name}`]);
  for (const [category, guard, before, after, , reason] of one.detail.escalations || []) {
    facts.push(["Escalated", `${title(category)} to ${guard}: ${chance(before)} became ${after === null ? reason : chance(after)}`]);
  }
  fill(main,
    h("p", {}, h("a", { href: "#/decisions" }, "Decisions")),
    h("h1", {}, badge(one.action, one.enforced), " ", one.category ? title(one.category) : `${one.direction} decision`),
    h("div", { class: "two" },
      h("div", { class: "stack" },
        h("section", { class: "card stack" }, h("h2", {}, "Text"), textOf(one)),
        h("section", { class: "card stack" }, h("h2", {}, "Answer"), answerOf(one))),
      h("div", { class: "stack" },
        h("section", { class: "card" }, h("h2", {}, "Probabilities"), scoreBars(one.detail.scores || {})),
        h("section", { class: "card" }, h("h2", {}, "Facts"), h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))))));
}

function textOf(one) {
  if (one.text_form !== "plain" || one.text === null) {
    const why = { none: "The policy keeps no text (audit: {text: none}).", hash: `Only a keyed hash was kept: ${one.text}`,
      encrypted: "The text is encrypted, and the server has no key that opens it." };
    return h("p", { class: "quiet" }, why[one.text_form] || "There is no text.");
  }
  const keys = Object.entries(one.detail.scores || {}).sort((a, b) => b[1][0] - a[1][0]).map(([key]) => key);
  const first = one.category || keys[0];
  return [one.prompt ? h("p", { class: "quiet" }, "Before it: ", one.prompt) : null,
    keys.length ? explained(one.text, one.role, one.prompt, keys, first).parts : h("p", { class: "text" }, one.text)];
}

/** Bars of the likeliest categories, with ticks where flagging and blocking begin. */
export function scoreBars(scores, most = 12) {
  const rows = Object.entries(scores).sort((a, b) => b[1][0] - a[1][0]).slice(0, most);
  if (!rows.length) return h("p", { class: "quiet" }, "No probabilities: the text was not scored.");
  return h("div", { class: "scores" }, rows.map(([key, [p, flag, block]]) => {
    const level = block !== null && p >= block ? " block" : flag !== null && p >= flag ? " flag" : "";
    const bar = h("div", { class: `fill${level}` });
    bar.style.width = `${100 * p}%`;
    const ticks = [["flag", flag], ["block", block]].filter(([, at]) => at !== null && at !== undefined).map(([kind, at]) => {
      const tick = h("div", { class: `tick ${kind}`, title: `${kind} from ${at}` });
      tick.style.left = `${100 * at}%`;
      return tick;
    });
    return [h("span", {}, title(key)), h("div", { class: "track" }, bar, ticks), h("output", {}, chance(p))];
  }));
}

function answerOf(one) {
  const place = h("div", { class: "stack" });
  const name = reviewerField();
  const path = `/api/decisions/${encodeURIComponent(one.id)}/answer`;
  function draw(labels) {
    const say2 = (answer) => async () => {
      try {
        const found = answer ? await post(path, { answer, reviewer: name.value(), categories: [one.category], seen: one.time }) : (await remove(path), { labels: [] });
        say(answer ? `${answer} recorded` : "withdrawn");
        alarm("");
        draw(found.labels);
      } catch (error) { alarm(error.message); }
    };
    if (!(one.detail.findings || []).length) fill(place, h("p", { class: "quiet" }, "Nothing was found, so there is nothing to approve or overturn."));
    else if (labels.length) {
      fill(place, labels.map((label) => h("p", {}, `${label.reviewer}: ${label.answer}, so it ${label.violates ? "violates" : "does not violate"} ${title(label.category)}.`)),
        h("button", { type: "button", on: { click: say2(null) } }, "Withdraw"));
    } else {
      fill(place, h("p", { class: "quiet" }, `Was it right to ${one.action} this for ${title(one.category)}?`),
        h("div", { class: "bar" }, name.field,
          h("button", { type: "button", on: { click: say2("approve") } }, "Approve"),
          h("button", { type: "button", on: { click: say2("overturn") } }, "Overturn")));
    }
  }
  draw(one.labels);
  return place;
}
