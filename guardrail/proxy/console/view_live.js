// Live traffic: figures, charts and the newest decisions, every two seconds while it is looked at.
import { get } from "./api.js";
import { alarm, choose, fill, h } from "./dom.js";
import { actionBars, latencyLines } from "./charts.js";
import { decisionTable, ms, number, share, title } from "./format.js";

const EVERY_MS = 2000;
const RANGES = [["0.25", "15 minutes"], ["1", "1 hour"], ["24", "24 hours"], ["168", "7 days"]];

export async function live(main, state) {
  if (!state.audit) {
    fill(main, h("h1", {}, "Live"), h("p", { class: "card empty" }, "There is no audit: guardrail serve runs with --audit none."));
    return null;
  }
  let hours = "1", paused = false, timer = 0, over = false;
  const body = h("div", { class: "stack" });
  const pause = h("button", { type: "button", "aria-pressed": "false", on: { click: () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) turn();
  } } }, "Pause");
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Live"), h("span", { class: "grow" }),
    choose("Last", RANGES, hours, (value) => { hours = value; turn(); }), pause), body);

  async function turn() {
    clearTimeout(timer);
    if (over) return;
    if (!document.hidden) {
      try {
        const [counts, newest] = await Promise.all([
          get("/api/summary", { hours, buckets: 60 }), get("/api/decisions", { limit: 12 }),
        ]);
        if (!over) draw(body, counts, newest.decisions);
        alarm("");
      } catch (error) { alarm(error.message); }
    }
    if (!paused && !over) timer = setTimeout(turn, EVERY_MS);
  }
  await turn();
  return () => { over = true; clearTimeout(timer); };
}

function draw(body, { summary, series }, newest) {
  const count = (action) => Object.entries(summary.actions)
    .filter(([name]) => name.endsWith(` ${action}`)).reduce((sum, [, n]) => sum + n, 0);
  const total = summary.decisions || 1;
  const figure = (value, name) => h("div", { class: "card figure" }, h("b", {}, value), h("span", {}, name));
  const top = Object.entries(summary.categories).slice(0, 6);
  fill(body,
    h("div", { class: "grid figures" },
      figure(number(summary.requests), "requests"),
      figure(number(summary.decisions), "decisions"),
      figure(share(count("block") / total), `blocked (${number(count("block"))})`),
      figure(share(count("flag") / total), `flagged (${number(count("flag"))})`),
      figure(number(summary.outcomes.failed || 0), "failed checks"),
      figure(summary.check_ms.p95 === undefined ? "–" : ms(summary.check_ms.p95), "check, 95th percentile")),
    h("div", { class: "grid" },
      h("section", { class: "card" }, h("h2", {}, "Decisions"), actionBars(series),
        h("p", { class: "legend" }, ["pass", "flag", "redact", "block"].map((name) => h("span", {}, h("i", { class: name }), name)))),
      h("section", { class: "card" }, h("h2", {}, "Time of a check"), latencyLines(series),
        h("p", { class: "legend" }, h("span", {}, "line: mean"), h("span", {}, "dashed: slowest")))),
    top.length ? h("section", { class: "card" }, h("h2", {}, "Categories found"), categoryBars(top)) : null,
    h("section", { class: "card" }, newest.length ? decisionTable("Newest decisions", newest)
      : h("p", { class: "empty" }, "No decision yet. Send a request through the proxy.")));
}

function categoryBars(top) {
  const most = top[0][1];
  return h("div", { class: "scores" }, top.map(([name, n]) => {
    const bar = h("div", { class: "fill flag" });
    bar.style.width = `${(100 * n) / most}%`;
    return [h("span", {}, title(name)), h("div", { class: "track" }, bar), h("output", {}, number(n))];
  }));
}
