// How many decisions wait for a person, shown in the navigation.
import { get } from "./api.js";

export async function countWaiting(state) {
  const place = document.getElementById("waiting");
  if (!state.audit) return;
  const { decisions: found } = await get("/api/decisions", { review: 1, labelled: 0, limit: 100 });
  place.textContent = found.length > 99 ? "99+" : found.length;
  place.hidden = !found.length;
}
