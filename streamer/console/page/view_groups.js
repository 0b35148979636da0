// Consumer groups: how far behind in records and in time; members and partitions where unfolded.

import { h } from "./dom.js";
import { age, bytes, count, printable } from "./format.js";
import { loadDetail, model } from "./model.js";
import { badge, empty, panel, table, text, unfolded } from "./parts.js";

const ID = "groups";
const OPEN_MAX = 5;

export const groups = {
  id: ID,
  title: "Groups",
  mark(doc) {
    return doc.groups?.length ? { text: count(doc.groups.length) } : null;
  },
  async load() {
    for (const key of [...unfolded(ID)].slice(0, OPEN_MAX)) {
      const [stream, group] = JSON.parse(key);
      await loadDetail(`group ${key}`, "/api/group", { stream, group });
    }
  },
  draw({ overview }) {
    return panel("Consumer groups", { id: ID }, table({
      id: ID, label: "groups", rows: overview.groups ?? [], columns: COLUMNS, rowKey: keyOf,
      sorted: { sort: "group" }, filter: (row) => [row.stream, row.group], open: opened,
      none: "There are no groups yet. One is made when its first member joins.",
    }));
  },
};

function keyOf(row) {
  return JSON.stringify([row.stream, row.group]);
}

const COLUMNS = [
  { key: "group", title: "Group", lead: true, sort: (row) => row.group,
    cell: (row) => [text(row.group), row.paused && badge("paused", "warn")] },
  { key: "stream", title: "Stream", cell: (row) => text(row.stream), sort: (row) => row.stream },
  { key: "lag", title: "Behind", num: true, cell: (row) => count(row.lag), sort: (row) => row.lag },
  { key: "age", title: "Oldest", num: true, sort: (row) => row.oldest_age_s,
    cell: (row) => (row.lag > 0 ? age(row.oldest_age_s) : "-") },
  { key: "flight", title: "In flight", num: true, cell: (row) => count(row.in_flight),
    sort: (row) => row.in_flight },
  { key: "retrying", title: "Retrying", num: true, cell: (row) => count(row.retrying),
    sort: (row) => row.retrying },
  { key: "acked", title: "Acked", num: true, cell: (row) => count(row.acked), sort: (row) => row.acked },
  { key: "redelivered", title: "Again", num: true, minor: true, sort: (row) => row.redelivered,
    cell: (row) => count(row.redelivered) },
  { key: "dead", title: "Dead", num: true, sort: (row) => row.dead, cell: (row) => (row.dead > 0
    ? h("a", { href: `#dead?${encodeURIComponent(row.stream)}` }, count(row.dead))
    : count(row.dead)) },
  { key: "members", title: "Members", num: true, cell: (row) => count(row.members),
    sort: (row) => row.members },
  { key: "mode", title: "Mode", minor: true, sort: (row) => row.mode,
    cell: (row) => text(row.order && row.order !== "none" ? `${row.mode}, by ${row.order}` : row.mode) },
];

function opened(row) {
  const found = model.details.get(`group ${keyOf(row)}`);
  if (!found) return empty("Asking the daemon …");
  if (found.error) return empty(text(found.error));
  const key = keyOf(row);
  return h("div", { class: "split-panels" },
    h("div", null, h("h3", null, "Members"), table({
      id: `members ${key}`, label: "members", rows: found.document.member_list ?? [],
      columns: MEMBERS, rowKey: (each) => each.member, none: "Nobody is a member now.",
    })),
    h("div", null, h("h3", null, "Partitions"), table({
      id: `places ${key}`, label: "partitions", rows: found.document.partition_list ?? [],
      columns: PLACES, rowKey: (each) => each.partition, sorted: { sort: "partition" },
      none: "It has no partitions.",
    })));
}

const MEMBERS = [
  { key: "name", title: "Member", lead: true, cell: (row) => text(row.name || row.member) },
  { key: "peer", title: "Peer", cell: (row) => text(row.peer) },
  { key: "flight", title: "In flight", num: true,
    cell: (row) => `${count(row.in_flight)} of ${count(row.max_in_flight)}` },
  { key: "bytes", title: "Size", num: true, cell: (row) => bytes(row.in_flight_bytes) },
  { key: "oldest", title: "Oldest", num: true, cell: (row) => age(row.oldest_s) },
  { key: "partitions", title: "Owns", cell: (row) => text((row.partitions ?? []).join(", ") || "-") },
];

const PLACES = [
  { key: "partition", title: "Partition", num: true, cell: (row) => count(row.partition),
    sort: (row) => row.partition },
  { key: "lag", title: "Behind", num: true, cell: (row) => count(row.lag), sort: (row) => row.lag },
  { key: "age", title: "Oldest", num: true, cell: (row) => (row.lag > 0 ? age(row.oldest_age_s) : "-") },
  { key: "cursor", title: "Cursor", num: true, cell: (row) => count(row.cursor) },
  { key: "end", title: "High water", num: true, cell: (row) => count(row.high_water) },
  { key: "flight", title: "In flight", num: true, cell: (row) => count(row.in_flight) },
  { key: "retrying", title: "Retrying", num: true, cell: (row) => count(row.retrying) },
  { key: "fault", title: "Fault", cell: (row) => (row.fault ? badge(printable(row.fault), "bad") : "none") },
];
