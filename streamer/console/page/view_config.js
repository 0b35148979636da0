// The configuration that the daemon runs with: each setting, and where it came from.

import { h } from "./dom.js";
import { count, isNumber, tomlText } from "./format.js";
import { loadConfig } from "./model.js";
import { drawAgain, empty, panel, table, text } from "./parts.js";

const state = { changed: false };

export const config = {
  id: "config",
  title: "Config",
  load: loadConfig,
  draw(model) {
    if (!model.config) return panel("Config", null, empty("Asking the daemon …"));
    const all = Array.isArray(model.config) ? model.config : [];
    const rows = state.changed ? all.filter((row) => !isDefault(row)) : all;
    const choice = h("label", { class: "choice" }, h("input", {
      type: "checkbox", class: "check", checked: state.changed,
      on: { change: (event) => { state.changed = event.target.checked; drawAgain(); } },
    }), `only what was set (${count(all.filter((row) => !isDefault(row)).length)})`);
    return panel("Config", { id: "config", aside: choice }, table({
      id: "config", label: "settings", rows, columns: COLUMNS, rowKey: (row) => row.key,
      filter: (row) => [row.key, row.origin, row.help], open: opened,
      none: "Everything is as it is by default.",
    }));
  },
};

function isDefault(row) {
  return row.origin === "default" || row.origin === undefined;
}

const COLUMNS = [
  { key: "key", title: "Setting", lead: true, cell: (row) => h("code", null, text(row.key)),
    sort: (row) => row.key },
  { key: "value", title: "Value", wide: true, cell: (row) => h("code", null, text(written(row.value, row))) },
  { key: "default", title: "Default", wide: true,
    cell: (row) => h("code", { class: "note" }, text(written(row.default, row))) },
  { key: "origin", title: "From", wide: true, sort: (row) => row.origin,
    cell: (row) => h("span", { class: isDefault(row) ? "note" : "" }, text(row.origin)) },
  { key: "reload", title: "Changes on", minor: true, cell: (row) => (row.reload ? "reload" : "restart"),
    sort: (row) => (row.reload ? 1 : 0) },
];

function written(value, { unit }) {
  if (isNumber(value) && unit === "bytes") return exactSize(value);
  return isNumber(value) && unit ? `${value} ${unit}` : tomlText(value);
}

// A size as it would be written in the config: in the largest unit that leaves nothing over.
function exactSize(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let size = value;
  while (size !== 0 && size % 1024 === 0 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size} ${units[unit]}`;
}

function opened(row) {
  return h("p", null, text(row.help || "There is no more to say of it."));
}
