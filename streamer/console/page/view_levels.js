// Service levels: what was promised, what is kept, and how fast the budget for misses is used up.

import { h } from "./dom.js";
import { NONE, age, bytes, duration, figure, isNumber, percent, printable, share, span } from "./format.js";
import { badge, empty, meter, panel, text } from "./parts.js";

const NAMES = {
  latency_p99: "Append latency, p99",
  throughput: "Throughput",
  error_rate: "Errors",
  availability: "Availability",
  lag_age: "Age of what groups are behind",
};

export const levels = {
  id: "levels",
  title: "Service levels",
  mark({ sla }) {
    if (!sla) return null;
    return sla.met ? { text: "met", kind: "fine" } : { text: "missed", kind: "bad" };
  },
  draw({ overview: { sla } }) {
    if (!sla) {
      return panel("Service levels", null, empty("None are set: the table ",
        h("code", null, "[sla]"), " of the config says what this daemon should keep."));
    }
    return panel("Service levels", {
      note: `counted since ${age(sla.since_s)}`,
      aside: badge(sla.met ? "all met" : "missed", sla.met ? "fine" : "bad"),
    }, h("div", { class: "levels" }, (sla.objectives ?? []).map(box)));
  },
};

function box(each) {
  const { objective, compliance, budget_left: left } = each;
  return h("article", { class: "level", key: each.name },
    h("div", { class: "level-head" }, h("h3", null, NAMES[each.name] ?? text(each.name)),
      badge(each.met ? "met" : each.met === false ? "missed" : "unknown",
        each.met ? "fine" : each.met === false ? "bad" : "plain")),
    h("p", { class: "level-now" }, h("b", { class: each.ok === false ? "missed" : "" },
      written(each.now, each.unit)), h("span", null, "limit ", limit(each.limit, each.unit))),
    h("p", { class: "level-line" }, h("span", null, "Kept"), h("span", null,
      h("b", { class: compliance < objective ? "missed" : "" }, percent(compliance, 2)),
      ` of ${span(each.window_s)}, wanted ${share(objective)}`)),
    h("p", { class: "level-line" }, h("span", null, "Budget left"), h("span", null, budget(left))),
    meter(isNumber(left) ? 1 - left : null, "budget used", { warn: 0.5, bad: 0.9 }),
    h("p", { class: "level-line" }, h("span", null, "Burning"),
      h("span", null, burn(each.burn_5m), " over 5 min, ", burn(each.burn_1h), " over 1 h")));
}

function budget(left) {
  return left < 0 ? h("b", { class: "missed" }, `none, spent ${figure(1 - left)} times`) : percent(left);
}

// 1: the budget would last exactly the window.
function burn(rate) {
  return h("b", { class: rate > 1 ? "missed" : "" }, isNumber(rate) ? `${figure(rate)}×` : "-");
}

function limit(value, unit) {
  return unit === "s" ? span(value) : unit === "share" ? share(value) : written(value, unit);
}

function written(value, unit) {
  if (unit === "s") return duration(value);
  if (unit === "bytes") return bytes(value);
  if (unit === "share") return value === 0 ? "0 %" : percent(value, 2);
  if (!isNumber(value)) return NONE;
  return [figure(value), unit && h("span", { class: "unit" }, printable(unit))];
}
