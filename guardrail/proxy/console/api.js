// Requests to the server that this page came from. The token is kept for this tab only.

const KEY = "guardrail-token";

/** Take the token from the address, where it stands behind the # and so never leaves the browser. */
export function takeToken() {
  const found = /^#token=([\x21-\x7e]+)$/.exec(location.hash);
  if (found) {
    sessionStorage.setItem(KEY, decodeURIComponent(found[1]));
    history.replaceState(null, "", "#/live");
  }
  return Boolean(sessionStorage.getItem(KEY));
}

export function setToken(token) {
  sessionStorage.setItem(KEY, token);
}

export class Refused extends Error {}

async function ask(method, path, body) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEY) || ""}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("The server does not answer.");
  }
  const found = await answer.json().catch(() => ({}));
  if (answer.status === 401) throw new Refused("The token is missing or wrong.");
  if (!answer.ok) throw new Error(found.error || `The server answered ${answer.status}.`);
  return found;
}

export const get = (path, query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return ask("GET", text ? `${path}?${text}` : path);
};
export const post = (path, body) => ask("POST", path, body);
export const remove = (path) => ask("DELETE", path);
