// What the views are put together from: panels, tables, bars, badges.

import { h } from "./dom.js";
import { NONE, count, isNumber, printable } from "./format.js";

const ROWS_SHOWN = 100;
// Of tables: how each is sorted and filtered, what is unfolded, how much is shown. By table id.
const tables = new Map();
let redraw = () => {};

// Views change what is shown between two polls by this.
export function onRedraw(draw) {
  redraw = draw;
}

export function drawAgain() {
  redraw();
}

// A name or a text of anybody's. Isolated, so that it cannot turn what stands beside it around.
export function text(value, props = {}) {
  return h("bdi", props, printable(value));
}

export function panel(title, props, ...children) {
  const { aside, id, note } = props ?? {};
  return h("section", { class: "panel", key: id, id },
    h("div", { class: "panel-head" },
      h("h2", null, title), note && h("p", { class: "note" }, note), aside),
    children);
}

export function badge(label, kind = "plain") {
  return h("span", { class: `badge badge-${kind}` }, label);
}

export function empty(...children) {
  return h("p", { class: "empty" }, children);
}

// A bar of how full something is, 0..1; above `warn` and `bad` it says so by its color too.
export function meter(share, label, { warn = 0.7, bad = 0.9 } = {}) {
  const known = isNumber(share);
  const width = known ? Math.min(1, Math.max(0, share)) : 0;
  const level = width >= bad ? "bad" : width >= warn ? "warn" : "fine";
  return h("div", {
    class: `meter meter-${level}`, role: "meter", "aria-label": label,
    "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(width * 100),
    "aria-valuetext": known ? `${Math.round(width * 100)} %` : "unknown",
  }, h("div", { class: "meter-fill", style: { width: `${(width * 100).toFixed(2)}%` } }));
}

// A definition list of figures: [[label, value], ...].
export function facts(pairs, props = {}) {
  return h("dl", { class: `facts ${props.class ?? ""}` },
    pairs.filter(Boolean).map(([label, value]) =>
      h("div", { key: label }, h("dt", null, label), h("dd", null, value ?? NONE))));
}

function stateOf(id) {
  let found = tables.get(id);
  if (!found) {
    found = { sort: undefined, down: false, filter: "", open: new Set(), all: false };
    tables.set(id, found);
  }
  return found;
}

// A table that can be sorted by its heads. `columns`: {key, title, num, cell(row), sort(row)}; a
// column without `sort` cannot be sorted by; `lead` is what the row is, `wide` has long texts, and
// `minor` is left out on a narrow screen. `sorted`: {sort: key, down} to begin with. `filter(row)`:
// the texts to look in. `open(row)`: what is shown below a row that is unfolded. On a narrow screen
// each row becomes a card.
export function table({ id, label, columns, rows, rowKey, sorted, filter, open, none }) {
  const state = stateOf(id);
  if (state.sort === undefined) Object.assign(state, { sort: null, ...sorted });
  if (!rows.length) return empty(none);
  const found = arranged(rows, columns, state, filter);
  const shown = state.all ? found : found.slice(0, ROWS_SHOWN);
  return h("div", { class: "table-box", key: id },
    filter && rows.length > 5 && filterBox(state, label, found.length, rows.length),
    h("table", { class: "table" },
      h("caption", { class: "unseen" }, label),
      h("thead", null, h("tr", null,
        open && h("th", { class: "fold" }, h("span", { class: "unseen" }, "More")),
        columns.map((column) => head(column, state)))),
      h("tbody", null, shown.flatMap((row) => bodyRows(row, rowKey(row), columns, open, state)))),
    !found.length && empty("Nothing here has this in it."),
    shown.length < found.length && h("button", {
      class: "button more", type: "button",
      on: { click: () => { state.all = true; redraw(); } },
    }, `Show all ${count(found.length)}`));
}

function arranged(rows, columns, state, filter) {
  const wanted = state.filter.trim().toLowerCase();
  const found = wanted && filter
    ? rows.filter((row) => filter(row).some((one) => String(one ?? "").toLowerCase().includes(wanted)))
    : [...rows];
  const by = columns.find((column) => column.key === state.sort)?.sort;
  if (by) {
    const way = state.down ? -1 : 1;
    found.sort((one, other) => way * compare(by(one), by(other)));
  }
  return found;
}

function compare(one, other) {
  const [a, b] = [one ?? -Infinity, other ?? -Infinity];
  if (typeof a === "string" || typeof b === "string") {
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }
  return a - b;
}

function filterBox(state, label, found, all) {
  return h("div", { class: "filter" },
    h("input", {
      type: "search", class: "input", value: state.filter, placeholder: "Filter",
      "aria-label": `Filter ${label}`, autocomplete: "off", spellcheck: "false",
      on: { input: (event) => { state.filter = event.target.value; redraw(); } },
    }),
    h("span", { class: "note", "aria-live": "polite" },
      state.filter ? `${count(found)} of ${count(all)}` : count(all)));
}

function head(column, state) {
  const cls = column.num ? "num" : "";
  if (!column.sort) return h("th", { class: cls, scope: "col", key: column.key }, column.title);
  const by = state.sort === column.key;
  const order = by ? (state.down ? "descending" : "ascending") : "none";
  return h("th", { class: cls, scope: "col", key: column.key, "aria-sort": order },
    h("button", {
      type: "button", class: "sort", on: { click: () => {
        state.down = by ? !state.down : Boolean(column.num);
        state.sort = column.key;
        redraw();
      } },
    }, column.title, h("span", { class: "arrow", "aria-hidden": "true" },
      by ? (state.down ? "↓" : "↑") : "")));
}

function bodyRows(row, key, columns, open, state) {
  const unfolded = state.open.has(key);
  const cells = columns.map((column) => h("td", {
    key: column.key, class: ["num", "wide", "lead", "minor"].filter((one) => column[one]).join(" "),
    "data-label": column.title,
  }, column.cell(row)));
  const toggle = open && h("td", { class: "fold" }, h("button", {
    type: "button", class: "fold-button", "aria-expanded": String(unfolded),
    "aria-label": unfolded ? "Less" : "More",
    on: { click: () => {
      if (unfolded) state.open.delete(key);
      else state.open.add(key);
      redraw();
    } },
  }, unfolded ? "▾" : "▸"));
  const lines = [h("tr", { key: `row ${key}`, class: unfolded ? "unfolded" : "" }, toggle, cells)];
  if (open && unfolded) {
    lines.push(h("tr", { key: `open ${key}`, class: "opened" },
      h("td", { colspan: columns.length + 1 }, open(row))));
  }
  return lines;
}

// Which rows of a table are unfolded: views load what those need.
export function unfolded(id) {
  return stateOf(id).open;
}
