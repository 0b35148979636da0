// Charts over time, drawn as SVG in pixels of the page. All charts share one cursor: who points at
// a moment in one reads the same moment in all. The readout takes the place of the newest values
// above the chart, so nothing moves.

import { h } from "./dom.js";
import { NONE, bytes, clock, duration, figure, isNumber } from "./format.js";
import { drawAgain } from "./parts.js";

const HEIGHT = 150;
const LEFT = 58;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 22;

// How values of a kind are written, and the steps of their axis.
const KINDS = {
  rate: { text: (value) => `${figure(value)}/s`, tick: short, base: 10, least: 1 },
  bytes: { text: bytes, tick: bytes, base: 2, least: 1024 },
  byteRate: { text: (value) => (isNumber(value) ? `${bytes(value)}/s` : NONE),
    tick: bytes, base: 2, least: 1024 },
  seconds: { text: duration, tick: (value) => trimmed(duration(value)), base: 10, least: 0.001 },
  number: { text: figure, tick: short, base: 10, least: 1 },
  share: { text: (value) => (isNumber(value) ? `${Math.round(value * 100)} %` : NONE),
    tick: (value) => `${Math.round(value * 100)} %`, base: 10, least: 0.1, most: 1 },
};

// As `figure`, without zeros that say nothing.
function short(value) {
  return trimmed(figure(value));
}

function trimmed(text) {
  return text.replace(/(\.\d*?)0+(?!\d)/, "$1").replace(/\.(?!\d)/, "");
}

const widths = new Map();
// The moment that is pointed at, in microseconds; null: the newest.
let cursorUs = null;

const observer = new ResizeObserver((entries) => {
  let changed = false;
  for (const { target, contentRect } of entries) {
    const width = Math.round(contentRect.width);
    if (width > 0 && widths.get(target.dataset.chart) !== width) {
      widths.set(target.dataset.chart, width);
      changed = true;
    }
  }
  if (changed) drawAgain();
});

// One chart. `lines`: [{name, label}] of `series`, which is one of the document `history`.
export function chart({ id, title, unit, kind, lines, series, spanS }) {
  const looks = KINDS[kind];
  const times = series?.at_us ?? [];
  const width = widths.get(id) ?? 480;
  const columns = lines.map(({ name }) => series?.series?.[name] ?? []);
  // An older daemon does not measure everything; of what it does not the chart says nothing.
  const shown = (index) => columns[index].length > 0 || columns.every((each) => !each.length);
  const at = pointedAt(times);
  const axis = axisOf(columns, looks);
  const newest = times[times.length - 1];
  const scale = {
    x: (us) => LEFT + (1 - (newest - us) / 1e6 / spanS) * (width - LEFT - RIGHT),
    y: (value) => TOP + (1 - Math.min(1, value / axis.max)) * (HEIGHT - TOP - BOTTOM),
  };
  return h("figure", { class: "chart", key: id, "data-chart": id, ref: (node) => observer.observe(node) },
    h("figcaption", { class: "chart-head" },
      h("span", { class: "chart-title" }, title, unit && h("span", { class: "unit" }, unit)),
      h("span", { class: "legend" }, lines.map(({ label, name }, index) => shown(index) &&
        h("span", { class: `legend-item line-${index}`, key: name },
          h("i", { class: "swatch", "aria-hidden": "true" }),
          h("span", { class: "legend-label" }, label),
          h("b", null, looks.text(columns[index][at])))))),
    h("svg", {
      class: "chart-plot", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img",
      tabindex: 0, "aria-label": spoken(title, lines, columns, looks, at), ...pointing(times, scale),
    },
    grid(axis, looks, width, scale),
    timeAxis(newest, spanS, width, scale),
    times.length > 1 && lines.map((line, index) =>
      drawn(times, columns[index], series.step_s, scale, index)),
    times.length > 1 && cursorUs !== null && cursor(times[at], columns, at, scale, width)),
    times.length < 2 && h("p", { class: "chart-empty" }, "Nothing was measured yet."));
}

function spoken(title, lines, columns, looks, at) {
  const now = lines.map(({ label }, index) => `${label} ${looks.text(columns[index][at])}`);
  return `${title}: ${now.join(", ")}. Arrow keys move through time.`;
}

function pointedAt(times) {
  if (cursorUs === null || !times.length) return times.length - 1;
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < cursorUs) low = middle + 1;
    else high = middle;
  }
  return low > 0 && cursorUs - times[low - 1] < times[low] - cursorUs ? low - 1 : low;
}

function pointing(times, scale) {
  const move = (event) => {
    if (times.length < 2) return;
    const box = event.currentTarget.getBoundingClientRect();
    const [first, second] = [scale.x(times[0]), scale.x(times[times.length - 1])];
    const share = (event.clientX - box.left - first) / (second - first || 1);
    cursorUs = times[0] + Math.min(1, Math.max(0, share)) * (times[times.length - 1] - times[0]);
    drawAgain();
  };
  const leave = () => {
    cursorUs = null;
    drawAgain();
  };
  const key = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === "Escape") leave();
    else if (step && times.length) {
      const at = Math.min(times.length - 1, Math.max(0, pointedAt(times) + step));
      cursorUs = times[at];
      event.preventDefault();
      drawAgain();
    }
  };
  return { on: { pointermove: move, pointerdown: move, pointerleave: leave, keydown: key, blur: leave } };
}

// The top of the axis and its steps: round numbers in the base that the unit counts in.
function axisOf(columns, looks) {
  let most = looks.least;
  for (const column of columns) {
    for (const value of column) if (isNumber(value) && value > most) most = value;
  }
  if (looks.most) return { max: looks.most, step: looks.most / 4 };
  const rough = most / 4;
  let step;
  if (looks.base === 2) step = 2 ** Math.ceil(Math.log2(rough));
  else {
    const power = 10 ** Math.floor(Math.log10(rough));
    step = [1, 2, 2.5, 5, 10].find((each) => each * power >= rough * 0.9999) * power;
  }
  return { max: Math.ceil(most / step - 1e-9) * step, step };
}

function grid(axis, looks, width, scale) {
  const lines = [];
  for (let value = 0; value <= axis.max * 1.0001; value += axis.step) {
    const y = Math.round(scale.y(value)) + 0.5;
    lines.push(
      h("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }),
      h("text", { class: "axis", x: LEFT - 6, y: y + 4, "text-anchor": "end" },
        value === 0 ? "0" : looks.tick(value)));
  }
  return h("g", { key: "grid" }, lines);
}

function timeAxis(newest, spanS, width, scale) {
  if (!isNumber(newest)) return h("g", { key: "time" });
  const marks = width < 420 ? 3 : 5;
  const labels = [];
  for (let mark = 0; mark < marks; mark += 1) {
    const us = newest - (spanS * 1e6 * (marks - 1 - mark)) / (marks - 1);
    const anchor = mark === 0 ? "start" : mark === marks - 1 ? "end" : "middle";
    const label = spanS > 600 ? clock(us).slice(0, 5) : clock(us);
    labels.push(h("text", {
      class: "axis", x: scale.x(us), y: HEIGHT - 6, "text-anchor": anchor,
    }, label));
  }
  return h("g", { key: "time" }, labels);
}

// A line with gaps where nothing was measured, and for the first one the area below it.
function drawn(times, values, stepS, scale, index) {
  const runs = [];
  let run = null;
  times.forEach((us, at) => {
    // A busy daemon measures late: then the series is longer than what is shown of it.
    if (scale.x(us) < LEFT) return;
    const gap = at > 0 && us - times[at - 1] > stepS * 2.5e6;
    if (!isNumber(values[at])) {
      run = null;
      return;
    }
    if (!run || gap) {
      run = [];
      runs.push(run);
    }
    run.push(`${scale.x(us).toFixed(1)},${scale.y(values[at]).toFixed(1)}`);
  });
  const floor = scale.y(0).toFixed(1);
  const x = (point) => point.slice(0, point.indexOf(","));
  return h("g", { class: `line-${index}`, key: `line ${index}` },
    index === 0 && h("path", { class: "area", d: runs.map((each) =>
      `M${x(each[0])},${floor}L${each.join("L")}L${x(each[each.length - 1])},${floor}Z`).join("") }),
    h("path", { class: "line", d: runs.map((each) => `M${each.join("L")}`).join("") }));
}

function cursor(us, columns, at, scale, width) {
  const x = scale.x(us).toFixed(1);
  const label = Math.min(width - RIGHT - 26, Math.max(LEFT + 26, scale.x(us)));
  return h("g", { key: "cursor", class: "cursor" },
    h("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }),
    h("text", { x: label, y: HEIGHT - 6, "text-anchor": "middle" }, clock(us)),
    columns.map((column, index) => isNumber(column[at])
      && h("circle", { class: `line-${index}`, cx: x, cy: scale.y(column[at]).toFixed(1), r: 3.5 })));
}
