// Which view is shown, and what is in force.
import { get, Refused, setToken, takeToken } from "./api.js";
import { alarm, fill, h } from "./dom.js";
import { setTitles } from "./format.js";
import { countWaiting } from "./queue.js";
import { live } from "./view_live.js";
import { decisions } from "./view_decisions.js";
import { detail } from "./view_detail.js";
import { review } from "./view_review.js";
import { playground } from "./view_playground.js";
import { model } from "./view_model.js";

const VIEWS = { live, decisions, decision: detail, review, playground, model };
const main = document.getElementById("main");
let leave = () => {};
let turn = 0;

/** Show the view that the address names; a view returns what to do when it is left. */
async function show() {
  leave();
  leave = () => {};
  const mine = ++turn;
  const [name, ...rest] = location.hash.replace(/^#\//, "").split("/");
  const view = VIEWS[name] || live;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    const state = await get("/api/state");
    if (mine !== turn) return;
    inForce(state);
    alarm(state.audit && state.audit.degraded ? `The audit database cannot be written (${state.audit.degraded}); ${state.audit.queued} decisions wait.` : "");
    // A view that is slow to come must neither take the place of the next one nor hear its keys.
    const place = h("div", { class: "view" });
    fill(main, place);
    const left = await view(place, state, rest.map(decodeURIComponent).join("/"));
    if (mine !== turn) {
      if (typeof left === "function") left();
      return;
    }
    if (typeof left === "function") leave = left;
    document.title = `${main.querySelector("h1")?.textContent || "console"} – guardrail`;
    await countWaiting(state);
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof Refused) login(error.message);
    else alarm(error.message);
  }
}

function inForce(state) {
  setTitles(state.titles);
  const mode = state.mode === "monitor" ? " (monitor)" : "";
  document.getElementById("in-force").textContent = `${state.policy}${mode} · ${state.model}`;
}

function login(why) {
  const field = h("input", { type: "password", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    setToken(field.value.trim());
    show();
  };
  fill(main, h("form", { class: "card login stack", on: { submit } },
    h("h1", {}, "Token"),
    h("p", {}, `${why} It was printed when \`guardrail serve\` started, or is GUARDRAIL_ADMIN_TOKEN.`),
    h("label", {}, "Token", field),
    h("button", { class: "main", type: "submit" }, "Open the console")));
  field.focus();
}

addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  takeToken();
  show().then(() => main.focus({ preventScroll: true }));
});
takeToken();
show();
