// A text with the words that speak for a category marked.
import { post } from "./api.js";
import { alarm, fill, h, say } from "./dom.js";
import { chance, title } from "./format.js";

/** A text, a choice of category, and a button that marks the words; `key` is its shortcut. */
export function explained(text, role, prompt, categories, first, key = "") {
  const shown = h("p", { class: "text", tabindex: "0", "aria-label": "Judged text" }, text);
  const note = h("p", { class: "legend" });
  const select = h("select", {}, categories.map((key) => h("option", { value: key, selected: key === first }, title(key))));
  const button = h("button", { type: "button", on: { click: run } }, "Mark words", key ? [" ", h("kbd", {}, key)] : null);
  async function run() {
    button.disabled = true;
    note.textContent = "Asking the model …";
    try {
      const found = await post("/api/explain", { text: text.slice(0, 8000), role, prompt: prompt || "", category: select.value });
      mark(shown, text, found.pieces);
      const words = found.pieces.filter(([, , fall]) => heat(fall, found.pieces) > 2).map(([a, b]) => text.slice(a, b).trim());
      fill(note, h("span", {}, `${title(select.value)}: ${chance(found.probability)}. `),
        h("span", {}, h("mark", { class: "heat1" }, "some"), " to ", h("mark", { class: "heat4" }, "most"),
          ": how far it falls without the words"));
      say(words.length ? `Words that speak for it: ${words.join(", ")}` : "No single word decides it.");
      alarm("");
    } catch (error) {
      note.textContent = "";
      alarm(error.message);
    }
    button.disabled = false;
  }
  const parts = h("div", { class: "stack" }, shown,
    h("div", { class: "bar" }, h("label", {}, "Category", select), button), note);
  return { parts, run };
}

function heat(fall, pieces) {
  const top = Math.max(...pieces.map(([, , f]) => f), 1e-9);
  if (top < 0.005 || fall <= 0) return 0;
  const part = fall / top;
  return part > 0.6 ? 4 : part > 0.35 ? 3 : part > 0.18 ? 2 : part > 0.08 ? 1 : 0;
}

// Places are counted in characters by the server, and in UTF-16 units here.
function mark(shown, text, pieces) {
  const letters = Array.from(text);
  const cut = (a, b) => letters.slice(a, b).join("");
  const nodes = [];
  let place = 0;
  for (const [start, end, fall] of pieces) {
    if (start > place) nodes.push(cut(place, start));
    const level = heat(fall, pieces);
    nodes.push(level ? h("mark", { class: `heat${level}`, title: fall.toFixed(3) }, cut(start, end)) : cut(start, end));
    place = end;
  }
  nodes.push(cut(place));
  fill(shown, nodes);
}
