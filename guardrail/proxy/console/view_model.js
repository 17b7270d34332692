// How far the model's probabilities can be trusted: reliability by category.
import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { reliability } from "./charts.js";
import { number, title } from "./format.js";
import { calibration } from "./measure.js";

export async function model(main, state) {
  const charts = h("div", { class: "small-multiples" });
  const rows = h("tbody", {});
  let over = false;
  fill(main, h("h1", {}, "Calibration"),
    h("p", { class: "quiet" }, "Labelled texts that the network was not trained on; the calibration curves were fitted on them, so the figures flatter a little. A point is a tenth of the scale: what was predicted against what was so, with a 95 % interval; larger points have more texts. On the dashed line, a probability means what it says."),
    state.calibrated.length ? null : h("p", { class: "card empty" }, "The model comes without labelled data."),
    charts,
    h("section", { class: "card scroll" }, h("table", {}, h("caption", {}, `Figures of ${state.model}`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Category"),
        ["Violating", "Other", "ECE", "Brier"].map((name) => h("th", { scope: "col", class: "number" }, name)))), rows)));
  (async () => {
    const order = [...state.calibrated].sort((a, b) => (a === "unsafe" ? -1 : b === "unsafe" ? 1 : title(a).localeCompare(title(b))));
    for (const key of order) {
      const data = await get(`/api/calibration/${encodeURIComponent(key)}`);
      if (over) return;
      const found = calibration(data);
      charts.append(h("section", { class: "card" }, h("h2", {}, title(key)), reliability(title(key), found.bins, found.ece)));
      rows.append(h("tr", {}, h("th", { scope: "row" }, title(key)),
        [number(data.positive.length), number(data.negative.length), found.ece.toFixed(3), found.brier.toFixed(3)].map((text) => h("td", { class: "number" }, text))));
    }
    main.dataset.done = "true";
  })().catch(() => {});
  return () => { over = true; delete main.dataset.done; };
}
