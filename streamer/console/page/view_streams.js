// Streams, and the partitions of those that are unfolded.

import { bytes, count, figure, printable } from "./format.js";
import { loadDetail, model } from "./model.js";
import { badge, empty, panel, table, text, unfolded } from "./parts.js";

const ID = "streams";
const OPEN_MAX = 5;

export const streams = {
  id: ID,
  title: "Streams",
  mark(doc) {
    const bad = (doc.streams ?? []).filter(({ state }) => state && state !== "open").length;
    return bad ? { text: count(bad), kind: "bad" } : { text: count(doc.streams?.length) };
  },
  async load() {
    for (const name of [...unfolded(ID)].slice(0, OPEN_MAX)) {
      await loadDetail(`stream ${name}`, "/api/stream", { stream: name });
    }
  },
  draw({ overview }) {
    return panel("Streams", { id: ID }, table({
      id: ID, label: "streams", rows: overview.streams ?? [], columns: COLUMNS,
      rowKey: (row) => row.name, sorted: { sort: "name" },
      filter: (row) => [row.name, row.pipeline, row.state], open: opened,
      none: "There are no streams yet. One is made when a program first names it.",
    }));
  },
};

const COLUMNS = [
  { key: "name", title: "Stream", lead: true, cell: (row) => text(row.name), sort: (row) => row.name },
  { key: "rate", title: "Records/s", num: true, cell: (row) => figure(row.records_per_s),
    sort: (row) => row.records_per_s },
  { key: "records", title: "Records", num: true, cell: (row) => count(row.records),
    sort: (row) => row.records },
  { key: "bytes", title: "Size", num: true, cell: (row) => bytes(row.bytes), sort: (row) => row.bytes },
  { key: "partitions", title: "Partitions", num: true, cell: (row) => count(row.partitions),
    sort: (row) => row.partitions },
  { key: "dropped", title: "Dropped", num: true, minor: true, cell: (row) => count(row.dropped),
    sort: (row) => row.dropped },
  { key: "pipeline", title: "Pipeline", cell: (row) => text(row.pipeline || "none"),
    sort: (row) => row.pipeline },
  { key: "storage", title: "Kept", cell: (row) => text(row.storage), sort: (row) => row.storage },
  { key: "state", title: "State", cell: (row) => stateBadge(row.state), sort: (row) => row.state },
];

function stateBadge(state) {
  return badge(printable(state), state === "open" ? "fine" : state ? "bad" : "plain");
}

function opened(row) {
  const found = model.details.get(`stream ${row.name}`);
  if (!found) return empty("Asking the daemon …");
  if (found.error) return empty(text(found.error));
  return table({
    id: `partitions ${row.name}`, label: `partitions of ${printable(row.name)}`,
    rows: found.document.partitions ?? [], columns: PARTITIONS, rowKey: (each) => each.partition,
    none: "It has no partitions.",
  });
}

const PARTITIONS = [
  { key: "partition", title: "Partition", num: true, cell: (row) => count(row.partition) },
  { key: "first", title: "First offset", num: true, cell: (row) => count(row.first_offset) },
  { key: "end", title: "High water", num: true, cell: (row) => count(row.high_water) },
  { key: "bytes", title: "Size", num: true, cell: (row) => bytes(row.bytes) },
  { key: "segments", title: "Segments", num: true, cell: (row) => count(row.segments) },
  { key: "state", title: "State", cell: (row) => stateBadge(row.state) },
];
