/** Numbers as text. The space before a unit does not break. */

const LOCALE = "en";
const PREFIXES = ["", "k", "M", "G", "T", "P", "E", "Z", "Y", "R", "Q"];

/** 3.59e15, "FLOP" -> "3.59 PFLOP"; 7 digits are what float32 carries. */
export function amount(value, unit) {
  if (value === null) return "n/a";
  if (unit === "FLOP") return withPrefix(value, unit);
  if (unit === "s") return duration(value);
  const digits = { maximumSignificantDigits: 7 };
  return `${value.toLocaleString(LOCALE, digits)}\u00a0${unit}`.trim();
}

/** Per cent of the plan, in words, so that no sign has to be interpreted. */
export function saving({ saved_pct: percent, planned }) {
  if (!planned) return "no baseline";
  if (percent === null) return "n/a";
  if (percent === 0) return "0\u00a0%";
  const size = `${Math.abs(percent).toFixed(1)}\u00a0%`;
  return percent > 0 ? `${size} less` : `+${size} more`;
}

/** 0.92049999 -> "0.9205". */
export function quality(value) {
  if (value === null) return "n/a";
  const digits = { minimumSignificantDigits: 4, maximumSignificantDigits: 4 };
  return value.toLocaleString(LOCALE, digits);
}

function withPrefix(value, unit) {
  // 999.6 is shown with three digits, so it is already "1.00 k".
  const reached = (_, power) => Math.abs(value) >= 0.9995 * 1000 ** power;
  const power = Math.max(0, PREFIXES.findLastIndex(reached));
  const mantissa = (value / 1000 ** power).toPrecision(3);
  return `${mantissa}\u00a0${PREFIXES[power]}${unit}`;
}

function duration(value) {
  if (value < 60) return `${value.toPrecision(3)}\u00a0s`;
  const seconds = Math.round(value);
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const two = (number) => String(number % 60).padStart(2, "0");
  return hours
    ? `${hours}\u00a0h\u00a0${two(minutes)}\u00a0min`
    : `${minutes}\u00a0min\u00a0${two(seconds)}\u00a0s`;
}
