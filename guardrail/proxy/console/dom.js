// Elements from values. Text is only ever set as text: nothing here parses HTML.

/** Make an element: attributes by name, `on` for listeners, children as nodes or texts. */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
export function s(tag, attributes = {}, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replace all that an element contains. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/** Tell a screen reader what happened. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** Show what went wrong, or nothing. */
export function alarm(text) {
  const place = document.getElementById("alert");
  place.textContent = text || "";
  place.hidden = !text;
}

/** A select with a label. */
export function choose(label, options, value, changed) {
  const select = h("select", { on: { change: (event) => changed(event.target.value) } },
    options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
  return h("label", {}, label, select);
}
