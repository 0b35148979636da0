// How values look. What is missing, or is not what it should be, is "-": an older daemon leaves
// keys out, and a newer one may mean something else by them.

export const NONE = "-";
const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

// Three digits that count, with zeros kept so that a column does not dance: 1.20, 12.3, 123.
function digits3(value) {
  const size = Math.abs(value);
  return value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

// A count: 12,345.
export function count(value) {
  if (!isNumber(value)) return NONE;
  return Math.round(value).toLocaleString("en-US");
}

// A rate or another figure: 0.25, 12.3, 12,345, 1.23 M.
export function figure(value) {
  if (!isNumber(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e9) return `${digits3(value / 1e9)} G`;
  if (size >= 1e6) return `${digits3(value / 1e6)} M`;
  if (size === 0 || size >= 99.95) return count(value);
  return size < 0.01 ? value.toPrecision(2) : digits3(value);
}

export function bytes(value) {
  if (!isNumber(value)) return NONE;
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1023.95 && unit < BYTE_UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || Number.isInteger(size) ? Math.round(size) : digits3(size)} ${BYTE_UNITS[unit]}`;
}

// A duration in seconds, of latencies: 850 µs, 2.31 ms, 1.20 s.
export function duration(value) {
  if (!isNumber(value)) return NONE;
  if (value === 0) return "0 ms";
  if (value < 0.0009995) return `${Math.round(value * 1e6)} µs`;
  if (value < 0.9995) return `${digits3(value * 1e3)} ms`;
  return value < 100 ? `${digits3(value)} s` : age(value);
}

// How old something is: 12 ms, 3.4 s, 5 min 12 s, 2 h 5 min, 3 d 4 h.
export function age(value) {
  if (!isNumber(value)) return NONE;
  if (value < 0.9995) return `${Math.round(Math.max(0, value) * 1000)} ms`;
  if (value < 99.95) return `${value.toFixed(1)} s`;
  const seconds = Math.round(value);
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  if (hours < 1) return `${minutes} min ${seconds % 60} s`;
  if (days < 1) return `${hours} h ${minutes % 60} min`;
  return `${days} d ${hours % 24} h`;
}

// A span that somebody chose, without parts that are nothing: 1 d, 2 min.
export function span(value) {
  return age(value).replace(/(?<= [a-z]+) 0 [a-z]+$/, "").replace(/\.0 s$/, " s");
}

// A share that somebody chose, with as many digits as it has: 99.9 %.
export function share(value) {
  return isNumber(value) ? `${Number((value * 100).toFixed(4))} %` : NONE;
}

// A share of 0..1; close to all is not rounded up to all.
export function percent(value, decimals = 0) {
  if (!isNumber(value)) return NONE;
  const shown = (value * 100).toFixed(decimals);
  if (value < 1 && Number(shown) === 100) return percent(value, decimals + 1);
  return `${shown} %`;
}

export function clock(timeUs) {
  const date = dateOf(timeUs);
  return date ? date.toLocaleTimeString("en-GB") : NONE;
}

export function moment(timeUs) {
  const date = dateOf(timeUs);
  return date ? `${date.toLocaleDateString("sv-SE")} ${date.toLocaleTimeString("en-GB")}` : NONE;
}

function dateOf(timeUs) {
  const date = new Date(isNumber(timeUs) ? timeUs / 1000 : NaN);
  return Number.isNaN(date.getTime()) ? null : date;
}

// A text of anybody's, for people: what cannot be seen, or turns a line around, is written out.
export function printable(text) {
  if (text === null || text === undefined) return NONE;
  return String(text).replace(
    /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\u2028\u2029]/gu,
    (char) => `\\u{${char.codePointAt(0).toString(16)}}`,
  );
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

// A value of the configuration as it would stand in TOML.
export function tomlText(value) {
  if (Array.isArray(value)) return `[${value.map(tomlText).join(", ")}]`;
  if (typeof value === "string") return JSON.stringify(value);
  if (value === null || value === undefined) return NONE;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
