// What happens, newest first. The feed can be held, to read while more comes.

import { h } from "./dom.js";
import { clock, count, moment, printable } from "./format.js";
import { loadEvents } from "./model.js";
import { drawAgain, empty, panel, text } from "./parts.js";

const SHOWN_MAX = 200;
const LEVELS = ["info", "warning", "error"];
const state = { least: "info", held: null, filter: "" };

export function severityMark({ severity }) {
  const level = LEVELS.includes(severity) ? severity : "info";
  return h("span", { class: `severity severity-${level}` }, level);
}

export const events = {
  id: "events",
  title: "Events",
  load: loadEvents,
  draw(model) {
    const { list, missed } = state.held ?? model.events;
    const wanted = state.filter.trim().toLowerCase();
    const found = list.filter((event) => LEVELS.indexOf(event.severity) >= LEVELS.indexOf(state.least)
      && (!wanted || `${event.kind} ${event.text}`.toLowerCase().includes(wanted)));
    return panel("Events", { id: "events", aside: controls(model) },
      missed > 0 && h("p", { class: "hint" },
        `${count(missed)} came faster than this page asked, and are gone.`),
      found.length
        ? h("ol", { class: "events" }, found.slice(0, SHOWN_MAX).map(line))
        : empty(list.length ? "Nothing here is like that." : "Nothing has happened yet."));
  },
};

function line(event) {
  const facts = Object.entries(event.facts ?? {});
  return h("li", { key: event.seq, class: `event event-${event.severity}` },
    h("time", { title: moment(event.at_us) }, clock(event.at_us)),
    severityMark(event),
    h("code", { class: "kind" }, printable(event.kind)),
    h("p", null, text(event.text), event.count > 1 && h("b", null, ` ${count(event.count)} times`)),
    facts.length > 0 && h("p", { class: "event-facts" }, facts.map(([name, value]) =>
      h("span", { key: name }, `${printable(name)} `, text(typeof value === "object"
        ? JSON.stringify(value) : value)))));
}

function controls(model) {
  return h("div", { class: "controls" },
    h("input", {
      type: "search", class: "input", value: state.filter, placeholder: "Filter",
      "aria-label": "Filter events", autocomplete: "off", spellcheck: "false",
      on: { input: (event) => { state.filter = event.target.value; drawAgain(); } },
    }),
    h("select", {
      class: "input", value: state.least, "aria-label": "Least severity",
      on: { change: (event) => { state.least = event.target.value; drawAgain(); } },
    }, LEVELS.map((level) => h("option", { key: level, value: level },
      level === "error" ? "errors" : `${level} and above`))),
    h("button", {
      type: "button", class: "button", "aria-pressed": String(state.held !== null),
      on: { click: () => { state.held = state.held ? null : model.events; drawAgain(); } },
    }, state.held ? "Go on" : "Hold"));
}
