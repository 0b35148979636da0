// Everything at a glance: what needs attention, the figures that matter, how they went.

import { attention, sinceText } from "./attention.js";
import { chart } from "./chart.js";
import { h } from "./dom.js";
import { age, bytes, clock, count, duration, figure, isNumber, percent, printable } from "./format.js";
import { loadEvents, loadHistory } from "./model.js";
import { badge, drawAgain, empty, facts, panel, text } from "./parts.js";
import { severityMark } from "./view_events.js";
import { isOwn } from "./view_pipelines.js";

// The spans that there is history of: which series, how long, what its steps are.
const SPANS = {
  fine: { label: "5 min", note: "1 s steps", spanS: 300 },
  coarse: { label: "1 h", note: "10 s steps", spanS: 3600 },
};
// Made here of the channels of all pipelines.
const FULLEST = "fullest";
const CHARTS = [
  { id: "records", title: "Records", kind: "rate",
    lines: [{ name: "records_in", label: "in" }, { name: "records_out", label: "out" }] },
  { id: "latency", title: "Append latency", kind: "seconds",
    lines: [{ name: "append_p50_s", label: "p50" }, { name: "append_p99_s", label: "p99" }] },
  { id: "network", title: "Network", kind: "byteRate",
    lines: [{ name: "bytes_in", label: "in" }, { name: "bytes_out", label: "out" }] },
  { id: "lag", title: "Behind", unit: "records", kind: "number",
    lines: [{ name: "lag_records", label: "lag" }, { name: "in_flight", label: "in flight" }] },
  { id: "cpu", title: "Processor", unit: "cores", kind: "number",
    lines: [{ name: "cpu", label: "used" }] },
  { id: "memory", title: "Memory", kind: "bytes", lines: [{ name: "rss_bytes", label: "resident" }] },
  { id: "fullest", title: "Fullest channel", kind: "share", lines: [{ name: FULLEST, label: "full" }] },
  { id: "errors", title: "Errors", kind: "rate",
    lines: [{ name: "errors", label: "errors" }, { name: "timeouts", label: "timeouts" }] },
];
let span = "fine";

export const overview = {
  id: "overview",
  title: "Overview",
  async load() {
    await loadHistory();
    await loadEvents();
  },
  draw(model) {
    return [
      attentionPanel(model.overview), tiles(model.overview), charts(model.history), latest(model),
      about(model.overview),
    ];
  },
};

function attentionPanel(doc) {
  const { shown, more } = attention(doc);
  const calm = !shown.length;
  return h("section", { class: `panel attention ${calm ? "calm" : ""}`, key: "attention" },
    h("h2", null, calm ? "Nothing needs attention" : "Needs attention"),
    !calm && h("ul", { class: "attention-list" }, shown.map((each) =>
      h("li", { key: each.what, class: `attention-${each.level}` },
        h("a", { href: `#${each.view}` }, each.what),
        each.why && h("span", { class: "why" }, each.why),
        h("span", { class: "since" }, sinceText(each.since))))),
    more > 0 && h("p", { class: "note" }, `and ${count(more)} more`));
}

function tiles(doc) {
  const { rates, process, disk, sessions } = doc;
  const append = worstAppend(doc.pipelines);
  const lag = lagOf(doc.groups);
  return h("section", { class: "tiles", key: "tiles", "aria-label": "Figures" },
    tile("Records in", figure(rates?.records_in), "/s", `${figure(rates?.records_acked)} acked/s`),
    tile("Records out", figure(rates?.records_out), "/s", "to readers and groups"),
    tile("Append p99", duration(append?.p99_s), "", `p50 ${duration(append?.p50_s)}`),
    tile("Errors", figure(rates?.errors), "/s", `${figure(rates?.timeouts)} timeouts/s`,
      rates?.errors > 0 || rates?.timeouts > 0 ? "bad" : ""),
    tile("Behind", figure(lag.records), "", lag.records > 0 ? `oldest ${age(lag.oldest)}` : "records"),
    tile("Network in", bytes(rates?.bytes_in), "/s", `out ${bytes(rates?.bytes_out)}/s`),
    tile("Processor", isNumber(process?.cpu) ? process.cpu.toFixed(2) : "-", "cores",
      `${age(process?.cpu_s)} in all`),
    tile("Memory", bytes(process?.rss_bytes), "", `${count(process?.threads)} threads`),
    tile("Sessions", count(sessions?.count), "", `of ${count(sessions?.max)}`),
    tile("Disk free", bytes(disk?.free_bytes), "", `of ${bytes(disk?.total_bytes)}`));
}

function tile(label, value, unit, below, kind = "") {
  return h("div", { class: `tile ${kind && `tile-${kind}`}`, key: label },
    h("div", { class: "tile-label" }, label),
    h("div", { class: "tile-value" }, value, unit && h("span", { class: "unit" }, unit)),
    h("div", { class: "tile-below" }, below));
}

// Of the pipeline that is slowest now; the daemon's own is nobody's but its.
function worstAppend(pipelines) {
  return (pipelines ?? []).filter((each) => !isOwn(each)).map((each) => each.append)
    .filter((each) => isNumber(each?.p99_s) && each.count !== 0)
    .sort((one, other) => other.p99_s - one.p99_s)[0];
}

function lagOf(groups) {
  if (!Array.isArray(groups)) return { records: undefined };
  const ages = groups.map((each) => each.oldest_age_s).filter(isNumber);
  return {
    records: groups.reduce((sum, each) => sum + (each.lag ?? 0), 0),
    oldest: ages.length ? Math.max(...ages) : null,
  };
}

function charts(history) {
  const { spanS, note } = SPANS[span];
  const choice = h("div", { class: "choice", role: "group", "aria-label": "Span of time" },
    Object.entries(SPANS).map(([key, each]) => h("button", {
      type: "button", key, class: "button", "aria-pressed": String(key === span),
      on: { click: () => { span = key; drawAgain(); } },
    }, each.label)));
  return panel("Over time", { id: "charts", note, aside: choice },
    h("div", { class: "charts" },
      CHARTS.map((each) => chart({ ...each, series: withFullest(history[span]), spanS }))));
}

function withFullest(series) {
  const fills = Object.keys(series.series).filter((name) => name.startsWith("fill."))
    .map((name) => series.series[name]);
  const fullest = series.at_us.map((_, at) => fills.reduce((most, one) => Math.max(most, one[at] ?? 0), 0));
  return { ...series, series: { ...series.series, [FULLEST]: fullest } };
}

function latest({ events }) {
  return panel("Latest events", { id: "latest", aside: h("a", { href: "#events" }, "All events") },
    events.list.length
      ? h("ol", { class: "latest" }, events.list.slice(0, 6).map((event) =>
        h("li", { key: event.seq }, h("time", null, clock(event.at_us)), severityMark(event),
          h("span", null, text(event.text), event.count > 1 && ` (${count(event.count)} times)`))))
      : empty("Nothing has happened yet."));
}

function about(doc) {
  return panel("This daemon", { id: "about" }, facts([
    ["Listens on", (doc.listen ?? []).map((url) => h("div", null, text(url)))],
    ["HTTP", text(doc.http)],
    ["Data", text(doc.disk?.path)],
    ["Process", `${printable(doc.pid)}`],
    ["Open files", `${count(doc.process?.fds)} of ${count(doc.process?.fds_max)}`],
    ["Protocol", printable(doc.protocol)],
    ["Available", percent(doc.availability, 2)],
    ["Records in all", count(doc.totals?.records_acked)],
    ["Console", doc.console?.actions ? badge("may redrive", "warn") : badge("read-only")],
  ], { class: "facts-wide" }));
}
