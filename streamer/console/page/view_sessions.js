// Sessions: who is connected, how much each has under way, and who is slow.

import { age, bytes, count, printable } from "./format.js";
import { badge, panel, table, text } from "./parts.js";

const ID = "sessions";

export const sessions = {
  id: ID,
  title: "Sessions",
  mark({ sessions: found }) {
    const slow = (found?.shown ?? []).filter((each) => each.slow).length;
    return slow ? { text: count(slow), kind: "warn" } : { text: count(found?.count) };
  },
  draw({ overview }) {
    const { shown = [], count: all } = overview.sessions ?? {};
    const note = all > shown.length ? `${count(shown.length)} of ${count(all)}, the busiest` : null;
    return panel("Sessions", { id: ID, note }, table({
      id: ID, label: "sessions", rows: shown, columns: COLUMNS, rowKey: (row) => row.session,
      sorted: { sort: "session" },
      filter: (row) => [row.session, row.name, row.peer, row.transport],
      none: "Nobody is connected.",
    }));
  },
};

const COLUMNS = [
  { key: "session", title: "Session", cell: (row) => printable(row.session),
    sort: (row) => row.session },
  { key: "name", title: "Name", lead: true, sort: (row) => row.name,
    cell: (row) => [text(row.name || "-"), row.slow && badge("slow", "warn"),
      row.leaving && badge("leaving")] },
  { key: "peer", title: "Peer", wide: true, cell: (row) => text(row.peer), sort: (row) => row.peer },
  { key: "transport", title: "By", minor: true, cell: (row) => text(row.transport),
    sort: (row) => row.transport },
  { key: "age", title: "Age", num: true, cell: (row) => age(row.age_s), sort: (row) => row.age_s },
  { key: "heard", title: "Heard", num: true, minor: true, cell: (row) => age(row.heard_s),
    sort: (row) => row.heard_s },
  { key: "requests", title: "Under way", num: true, sort: (row) => row.under_way_bytes,
    cell: (row) => `${count(row.requests)} (${bytes(row.under_way_bytes)})` },
  { key: "window", title: "Window", num: true, minor: true, cell: (row) => bytes(row.window_bytes),
    sort: (row) => row.window_bytes },
  { key: "outbox", title: "Outbox", num: true, cell: (row) => bytes(row.outbox_bytes),
    sort: (row) => row.outbox_bytes },
  { key: "in", title: "In", num: true, cell: (row) => bytes(row.bytes_in), sort: (row) => row.bytes_in },
  { key: "out", title: "Out", num: true, cell: (row) => bytes(row.bytes_out),
    sort: (row) => row.bytes_out },
  { key: "reads", title: "Reads", num: true, cell: (row) => count(row.subscriptions),
    sort: (row) => row.subscriptions },
  { key: "memberships", title: "Groups", num: true, cell: (row) => count(row.memberships),
    sort: (row) => row.memberships },
];
