// Charts as plain SVG, each with a text that says the same.
import { s } from "./dom.js";

const WIDE = 560, HIGH = 190, LEFT = 44, BOTTOM = 24, TOP = 10, RIGHT = 8;
const across = WIDE - LEFT - RIGHT, down = HIGH - TOP - BOTTOM;

function frame(label, ...parts) {
  return s("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": label }, parts);
}

/** A round number at or above a value: 1, 2 or 5 times a power of ten. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value);
}

function axes(top, unit, since, until) {
  const lines = [];
  for (const part of [0, 0.5, 1]) {
    const y = TOP + down * (1 - part);
    lines.push(s("line", { class: "axis", x1: LEFT, x2: WIDE - RIGHT, y1: y, y2: y }));
    lines.push(s("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, short(top * part) + unit));
  }
  const long = until - since > 36 * 3600;
  for (const part of [0, 0.5, 1]) {
    const date = new Date((since + (until - since) * part) * 1000);
    const text = long ? date.toISOString().slice(5, 10) : date.toTimeString().slice(0, 5);
    const anchor = part === 0 ? "start" : part === 1 ? "end" : "middle";
    lines.push(s("text", { x: LEFT + across * part, y: HIGH - 6, "text-anchor": anchor }, text));
  }
  return lines;
}

const short = (value) => (value >= 1000 ? `${+(value / 1000).toFixed(1)}k` : `${+value.toFixed(2)}`);

/** Decisions over time, one bar a part, actions stacked. */
export function actionBars(series) {
  const parts = series.pass.length, until = series.since + parts * series.width_s;
  const sums = series.pass.map((n, i) => n + series.flag[i] + series.redact[i] + series.block[i]);
  const top = ceiling(Math.max(...sums, 1)), width = across / parts;
  const bars = [];
  for (let i = 0; i < parts; i++) {
    let y = TOP + down;
    for (const action of ["pass", "flag", "redact", "block"]) {
      const high = (down * series[action][i]) / top;
      if (!high) continue;
      y -= high;
      bars.push(s("rect", { class: action, x: LEFT + i * width + 0.5, y, width: Math.max(width - 1, 1), height: high },
        s("title", {}, `${series[action][i]} ${action}`)));
    }
  }
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const label = `Decisions over time: ${sum(series.pass)} passed, ${sum(series.flag)} flagged, ${sum(series.redact)} redacted, ${sum(series.block)} blocked.`;
  return frame(label, axes(top, "", series.since, until), bars);
}

/** Time of a check over time: mean as a line, maximum dashed. */
export function latencyLines(series) {
  const parts = series.mean_ms.length, until = series.since + parts * series.width_s;
  const top = ceiling(Math.max(...series.max_ms, 1));
  const line = (values, name) => {
    let text = "", pen = "M";
    const lone = [];
    values.forEach((value, i) => {
      if (!value) { pen = "M"; return; }
      const x = (LEFT + across * ((i + 0.5) / parts)).toFixed(1), y = (TOP + down * (1 - value / top)).toFixed(1);
      text += `${pen}${x} ${y}`;
      if (pen === "M" && !values[i + 1]) lone.push(s("circle", { class: name.replace("curve", "lone"), cx: x, cy: y, r: 3 }));
      pen = "L";
    });
    return [s("path", { class: name, d: text }), lone];
  };
  const label = `Time of a check over time; the slowest took ${Math.max(...series.max_ms, 0).toFixed(0)} milliseconds.`;
  return frame(label, axes(top, " ms", series.since, until),
    line(series.max_ms, "curve2"), line(series.mean_ms, "curve"));
}

const SIDE = 220, PAD = 40;
const inner = SIDE - PAD - 8;
const px = (p) => PAD + inner * p;
const py = (p) => 8 + inner * (1 - p);

function square(label, xName, yName, ...parts) {
  return s("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, class: "square", role: "img", "aria-label": label },
    s("rect", { class: "axis", x: px(0), y: py(1), width: inner, height: inner }),
    [0, 0.5, 1].map((v) => [
      s("text", { x: px(v), y: py(0) + 14, "text-anchor": v === 1 ? "end" : "middle" }, v),
      s("text", { x: PAD - 4, y: py(v) + 4, "text-anchor": "end" }, v),
    ]),
    s("text", { x: px(0.5), y: py(0) + 28, "text-anchor": "middle" }, xName),
    s("text", { x: 9, y: py(0.5), "text-anchor": "middle", transform: `rotate(-90 9 ${py(0.5)})` }, yName),
    parts);
}

/** What was predicted against what was so; `bins` have mean, rate, count, low and high. */
export function reliability(name, bins, ece) {
  const most = Math.max(...bins.map((bin) => bin.count), 1);
  return square(`Reliability of ${name}: expected calibration error ${ece.toFixed(3)}.`,
    "predicted", "observed",
    s("line", { class: "curve2", x1: px(0), y1: py(0), x2: px(1), y2: py(1) }),
    bins.map((bin) => s("line", { class: "interval", x1: px(bin.mean), x2: px(bin.mean), y1: py(bin.low), y2: py(bin.high) })),
    bins.map((bin) => s("circle", { class: "dot", cx: px(bin.mean), cy: py(bin.rate), r: 2.5 + 5 * Math.sqrt(bin.count / most) },
      s("title", {}, `${bin.count} texts: predicted ${bin.mean.toFixed(3)}, observed ${bin.rate.toFixed(3)}`))));
}

/** Precision against recall, with the chosen thresholds marked. */
export function precisionRecall(name, curve, marks) {
  const path = curve.map((p, i) => `${i ? "L" : "M"}${px(p.recall).toFixed(1)} ${py(p.precision).toFixed(1)}`).join("");
  const words = marks.map((m) => `${m.kind} at ${m.threshold.toFixed(3)}: precision ${m.precision.toFixed(2)}, recall ${m.recall.toFixed(2)}`);
  return square(`Precision against recall of ${name}. ${words.join("; ")}.`, "recall", "precision",
    s("path", { class: "curve", d: path }),
    marks.map((m) => s("circle", { class: `mark-${m.kind}`, cx: px(m.recall), cy: py(m.precision), r: 6 }, s("title", {}, m.kind))));
}
