// The pipelines as they flow: what waits in front of each stage, how long it waits, how long the
// stage takes, and what it decided by itself.

import { fill, isHeld } from "./attention.js";
import { chart } from "./chart.js";
import { h } from "./dom.js";
import {
  age, bytes, clock, count, duration, figure, isNumber, percent, plural, printable,
} from "./format.js";
import { loadHistory } from "./model.js";
import { badge, empty, facts, meter, panel, text } from "./parts.js";

const DECISIONS_SHOWN = 6;

export const pipelines = {
  id: "pipelines",
  title: "Pipelines",
  load: loadHistory,
  mark(doc) {
    const bad = (doc.pipelines ?? []).filter((each) => each.state && each.state !== "running");
    return bad.length ? { text: count(bad.length), kind: "bad" } : null;
  },
  draw(model) {
    const found = model.overview.pipelines ?? [];
    if (!found.length) return panel("Pipelines", null, empty("There are none yet: the daemon is starting."));
    return found.map((each) => drawn(each, model.history.fine));
  },
};

// Whether it serves the daemon's own streams alone.
export function isOwn({ streams }) {
  return Array.isArray(streams) && streams.length > 0
    && streams.every((glob) => String(glob).startsWith("__"));
}

// Of a latency that nothing was measured of there is nothing to say.
function time(latency, key) {
  return duration(latency?.count === 0 ? undefined : latency?.[key]);
}

function drawn(pipeline, series) {
  const stages = pipeline.stages ?? [];
  const { rates, append } = pipeline;
  return h("section", { class: "panel pipeline", key: pipeline.name },
    h("div", { class: "panel-head" },
      h("h2", null, text(pipeline.name)),
      badge(printable(pipeline.state), pipeline.state === "running" ? "fine" : "bad"),
      h("p", { class: "note" }, "serves ",
        text((pipeline.streams ?? []).map(printable).join(", ") || "nothing"),
        isOwn(pipeline) && ": the daemon's own, such as what groups have done")),
    pipeline.last_error && h("p", { class: "fault" }, "Last error: ", text(pipeline.last_error)),
    facts([
      ["Records", `${figure(rates?.records)}/s`],
      ["Bytes", `${bytes(rates?.bytes)}/s`],
      ["Batches", `${figure(rates?.batches)}/s`],
      ["Append p50", time(append, "p50_s")],
      ["p99", time(append, "p99_s")],
      ["p99.9", time(append, "p999_s")],
      ["max", time(append, "max_s")],
      ["Oldest unacked", pipeline.oldest_s > 0 ? age(pipeline.oldest_s) : "none"],
    ]),
    h("ol", { class: "flow" }, stages.map((stage) => stageBox(stage, worst(stages)))),
    fillChart(pipeline, stages, series),
    stages.map((stage) => decided(stage)));
}

// What the longest wait and service of the line are: bars are drawn against it.
function worst(stages) {
  const sums = stages.map((each) => (each.queueing?.p99_s ?? 0) + (each.service?.p99_s ?? 0));
  return Math.max(1e-6, ...sums);
}

function stageBox(stage, mostS) {
  const { channel } = stage;
  const share = fill(channel);
  return h("li", { class: `stage ${isHeld(stage) ? "stage-held" : ""}`, key: stage.place },
    h("div", { class: "channel" },
      h("div", { class: "stage-label" }, "waiting", h("span", { class: "share" }, percent(share))),
      bar("items", channel?.items, channel?.items_max, count),
      bar("bytes", channel?.bytes, channel?.bytes_max, bytes),
      h("p", { class: "waiting" },
        channel?.senders_waiting > 0
          ? `${plural(channel.senders_waiting, "sender")} held back` : "nobody held back",
        h("span", null, channel?.items > 0 ? `oldest ${age(channel.oldest_s)}` : ""))),
    h("div", { class: "stage-body" },
      h("h3", null, text(stage.place), h("span", { class: "note" }, text(stage.stage))),
      h("p", { class: "stage-rates" }, h("span", null, `${figure(stage.items_per_s)} items/s`),
        h("span", null, `${bytes(stage.bytes_per_s)}/s`)),
      times(stage, mostS)));
}

function bar(label, used, most, written) {
  const share = isNumber(used) && isNumber(most) && most > 0 ? used / most : null;
  return h("div", { class: "channel-bar" }, meter(share, `${label} waiting`),
    h("p", null, h("span", null, written(used)), h("span", null, `of ${written(most)}`)));
}

function times({ queueing, service }, mostS) {
  const width = (latency) => `${(((latency?.p99_s ?? 0) / mostS) * 100).toFixed(1)}%`;
  const head = (kind) => h("th", { scope: "col" },
    h("i", { class: `swatch ${kind}`, "aria-hidden": "true" }), kind);
  const row = (label, key) => h("tr", null, h("th", { scope: "row" }, label),
    h("td", null, time(queueing, key)), h("td", null, time(service, key)));
  return h("div", { class: "times" },
    h("div", { class: "split", "aria-hidden": "true" },
      h("span", { class: "queueing", style: { width: width(queueing) } }),
      h("span", { class: "service", style: { width: width(service) } })),
    h("table", { class: "small" },
      h("thead", null, h("tr", null, h("td", null), head("queueing"), head("service"))),
      h("tbody", null, row("p50", "p50_s"), row("p99", "p99_s"), row("max", "max_s"))));
}

function fillChart(pipeline, stages, series) {
  const lines = stages.map(({ place }) => ({ name: `fill.${pipeline.name}.${place}`, label: place }));
  if (!lines.some(({ name }) => series.series[name])) return null;
  return chart({
    id: `fill ${pipeline.name}`, title: "Channels", unit: "share full", kind: "share", lines,
    series, spanS: 300,
  });
}

function decided({ place, detail }) {
  if (!detail) return null;
  const decisions = [...(detail.decisions ?? [])].reverse().slice(0, DECISIONS_SHOWN);
  return h("div", { class: "decided", key: `decided ${place}` },
    h("h3", null, "What ", text(place), " decides"),
    detail.summary && h("p", null, text(detail.summary)),
    facts(Object.entries(detail.figures ?? {}).map(([name, value]) =>
      [printable(name), written(name, value)])),
    decisions.length
      ? h("ol", { class: "decisions" }, decisions.map((each) =>
        h("li", { key: `${each.at_us} ${each.decision}` }, h("time", null, clock(each.at_us)),
          h("b", null, text(each.decision)), text(change(each)),
          h("span", { class: "why" }, text(each.reason)))))
      : empty("It has not changed anything yet."));
}

function change({ from, to }) {
  return from === undefined || from === null ? "" : `${shown(from)} → ${shown(to)}`;
}

function shown(value) {
  if (!isNumber(value)) return printable(value);
  return Number.isInteger(value) ? count(value) : figure(value);
}

function written(name, value) {
  if (/_s$/.test(name)) return duration(value);
  return /bytes/.test(name) ? bytes(value) : shown(value);
}
