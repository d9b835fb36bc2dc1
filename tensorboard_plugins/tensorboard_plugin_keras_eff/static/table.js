/** The table "Saved against plan". */

import { amount, quality, saving } from "./format.js";

const BETTER = { max: "higher is better", min: "lower is better" };

/** An element with attributes and children; text is never read as HTML. */
export function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const small = (...children) => element("small", {}, ...children);

function header({ columns }) {
  const cell = (...children) => element("th", { scope: "col" }, ...children);
  return element(
    "tr",
    {},
    cell("Run"),
    ...columns.quality.map(({ name, better }) =>
      cell(name, small(BETTER[better] ?? "")),
    ),
    ...columns.quantities.map(({ label }) => cell(label)),
  );
}

function runCell({ run, group, manifest }) {
  const { techniques = [], baseline, device, error, notice } = manifest;
  const lines = [
    techniques.join(" · ") || (error ? "" : "no technique"),
    baseline && `against ${baseline}`,
    device,
  ];
  const notes = [error, notice].filter(Boolean);
  return element(
    "th",
    { scope: "row", title: run },
    group,
    ...lines.filter(Boolean).map((line) => small(line)),
    ...notes.map((note) => element("small", { class: "note" }, note)),
  );
}

function meter({ used, planned, unit }) {
  const label = `${amount(used, unit)} of ${amount(planned, unit)} planned`;
  const bar = element("span", {});
  bar.style.width = `${Math.min(100, (100 * used) / planned)}%`;
  const roles = { role: "img", "aria-label": label, title: label };
  return element("div", { class: "meter", ...roles }, bar);
}

function tone({ fact, planned, saved_pct: saved }) {
  if (!planned || saved === null) return "unknown";
  if (!fact) return "unproven";
  return saved > 0 ? "less" : saved < 0 ? "more" : "same";
}

function quantityCell(name, card) {
  if (!card) return element("td", {}, small("not recorded"));
  const { used, planned, unit, basis } = card;
  const mark = element("em", {}, basis ?? "unstated");
  return element(
    "td",
    { "data-quantity": name, class: tone(card) },
    element("strong", {}, saving(card)),
    small(amount(used, unit), " ", mark),
    ...(planned && used !== null ? [meter(card)] : []),
  );
}

function row({ columns }, run) {
  return element(
    "tr",
    {},
    runCell(run),
    ...columns.quality.map(({ name }) =>
      element("td", {}, quality(run.quality[name]?.last ?? null)),
    ),
    ...columns.quantities.map(({ name }) =>
      quantityCell(name, run.cards[name]),
    ),
  );
}

/** The whole table of one overview. */
export function table(overview) {
  const { runs, truncated } = overview;
  const limit = `Only the first ${runs.length} runs by name are shown.`;
  const caption = element(
    "caption",
    {},
    "Saved against plan",
    small("Each run against its own baseline, up to the same step."),
    ...(truncated ? [small(limit)] : []),
  );
  const rows = runs.map((run) => row(overview, run));
  const head = element("thead", {}, header(overview));
  return element("table", {}, caption, head, element("tbody", {}, ...rows));
}

/** What to do when there is nothing to show. */
export function empty() {
  const call = "keras_eff.callbacks.SavingsLedger(log_dir=...)";
  return element(
    "p",
    {},
    "No run has recorded its savings yet. Give model.fit the callback ",
    element("code", {}, call),
    ", start TensorBoard on the same directory, then reload.",
  );
}
