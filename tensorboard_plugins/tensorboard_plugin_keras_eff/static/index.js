/** The Efficiency tab: what each run used against its plan. */

import { element, empty, table } from "./table.js";

// Relative to this file, for TensorBoard may sit under a path prefix.
const url = (path) => new URL(path, import.meta.url).href;

const alert = element("p", { role: "alert" });
const region = element("div", {
  class: "region",
  role: "region",
  "aria-label": "Saved against plan",
  tabindex: 0, // so that the keyboard can scroll a wide table
});
const download = element(
  "a",
  { href: url("../table.csv"), download: "efficiency.csv" },
  "Download as CSV",
);
const style = element("link", { rel: "stylesheet", href: url("style.css") });

let missedReload = false;

/** Called once by TensorBoard, which drops a rejection without a word. */
export async function render() {
  document.documentElement.lang = "en";
  document.head.append(style);
  document.body.append(alert, region, download);
  await attempt(() => {
    followTheme();
    followReloads();
    return refresh();
  });
}

/** Runs an action; if it fails, says so above the data shown before. */
async function attempt(action) {
  try {
    await action();
    alert.textContent = "";
  } catch (error) {
    alert.textContent = `This view could not be updated: ${error.message}`;
  }
}

async function refresh() {
  const response = await fetch(url("../overview"));
  if (!response.ok) throw new Error(`overview answered ${response.status}`);
  const overview = await response.json();
  const some = overview.runs.length > 0;
  region.replaceChildren(some ? table(overview) : empty());
  download.hidden = !some;
}

/** TensorBoard marks its dark mode on its own page only. */
function followTheme() {
  const host = window.parent.document.body;
  const page = document.documentElement.classList;
  const apply = () => page.toggle("dark", host.classList.contains("dark-mode"));
  new MutationObserver(apply).observe(host, { attributeFilter: ["class"] });
  apply();
}

/** Speaks the part of TensorBoard's messages that tells of new data. */
function followReloads() {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    const answer = { ...message, payload: null, isReply: true };
    port1.postMessage(JSON.stringify(answer));
    if (message.type === "experimental.DataReloaded") refreshWhenShown();
  };
  const { origin } = window.location;
  window.parent.postMessage("experimental.bootstrap", origin, [port2]);
  window.addEventListener("resize", () => missedReload && refreshWhenShown());
}

function refreshWhenShown() {
  missedReload = window.innerHeight === 0; // as in a tab that is not on top
  if (!missedReload) attempt(refresh);
}
