// Dead letters: of which streams, why, what they hold; and, where the config allows it, the way back.

import { post } from "./api.js";
import { h } from "./dom.js";
import { age, bytes, count, moment, plural, printable } from "./format.js";
import { loadDetail, model } from "./model.js";
import { badge, drawAgain, empty, facts, panel, table, text } from "./parts.js";

const ID = "dead";
const LIST = "dead streams";
// A page of letters is read from the disk, so it is asked for again only now and then.
const AGAIN_MS = 5000;

// What is shown and chosen. `pages`: the offsets that the pages began with, for the way back.
const state = { stream: null, pages: [0], chosen: new Set(), loadedAt: 0, waiting: null,
  asking: null, working: false, said: null };

export const dead = {
  id: ID,
  title: "Dead letters",
  mark({ console: own }) {
    const waiting = own?.dead_letters;
    return waiting ? { text: count(waiting), kind: "warn" } : null;
  },
  async load() {
    await loadDetail(LIST, "/api/dead", {});
    choose();
    if (state.stream === null) return;
    const waiting = streamsWithLetters().find((each) => each.stream === state.stream)?.waiting ?? 0;
    if (waiting === state.waiting && performance.now() - state.loadedAt < AGAIN_MS) return;
    await loadLetters();
    state.waiting = waiting;
  },
  draw() {
    const list = model.details.get(LIST);
    if (!list) return panel("Dead letters", null, empty("Asking the daemon …"));
    if (list.error) return panel("Dead letters", null, empty(text(list.error)));
    return [streamsPanel(list.document), state.stream !== null && lettersPanel(), dialog()];
  },
};

function streamsWithLetters() {
  return (model.details.get(LIST)?.document?.streams ?? []).filter(({ waiting }) => waiting > 0);
}

// The stream that the address names, or the first that has any.
function choose() {
  const named = decoded(location.hash.split("?")[1]);
  const stream = named || streamsWithLetters()[0]?.stream || state.stream;
  if (stream !== state.stream) {
    Object.assign(state, { stream, pages: [0], chosen: new Set(), loadedAt: 0, said: null });
  }
}

function decoded(query) {
  try {
    return decodeURIComponent(query ?? "");
  } catch {
    return "";
  }
}

async function loadLetters() {
  await loadDetail(pageKey(), "/api/dead", { stream: state.stream, from: state.pages.at(-1) });
  state.loadedAt = performance.now();
  const there = new Set(letters().map((each) => each.offset));
  for (const offset of state.chosen) if (!there.has(offset)) state.chosen.delete(offset);
}

function pageKey() {
  return `dead ${state.stream} ${state.pages.at(-1)}`;
}

function page() {
  return model.details.get(pageKey())?.document;
}

function letters() {
  return page()?.letters ?? [];
}

function allowed() {
  return model.overview?.console?.actions === true;
}

function streamsPanel({ streams = [] }) {
  const found = [...streams].sort((one, other) => other.waiting - one.waiting);
  return panel("Dead letters", { id: "dead-streams" },
    allowed() ? null : h("p", { class: "hint" }, "This console is read-only. With ",
      h("code", null, "[console] actions = true"), " in the config letters can be redriven from ",
      "here; ", h("code", null, "streamer dlq redrive STREAM"), " always can."),
    found.length
      ? h("ul", { class: "choices" }, found.map((each) => h("li", { key: each.stream },
        h("a", {
          href: `#dead?${encodeURIComponent(each.stream)}`,
          "aria-current": each.stream === state.stream ? "true" : undefined,
        }, text(each.stream), badge(count(each.waiting), each.waiting ? "warn" : "plain")))))
      : empty("No record has died. One does when a group has tried it too often, or a member says so."));
}

function lettersPanel() {
  const found = model.details.get(pageKey());
  const title = ["Letters of ", text(state.stream)];
  if (!found) return panel(title, { id: "letters" }, empty("Asking the daemon …"));
  if (found.error) return panel(title, { id: "letters" }, empty(text(found.error)));
  const document = found.document;
  const waiting = document.partitions?.reduce((sum, each) => sum + each.waiting, 0) ?? 0;
  return panel(title, { id: "letters", note: plural(waiting, "letter") },
    state.said && h("p", { class: `said said-${state.said.kind}`, role: "status" }, state.said.text),
    allowed() && waiting > 0 && buttons(waiting),
    (document.unreadable ?? []).map((each) => h("p", { class: "fault", key: each.first },
      `Offsets ${count(each.first)} to ${count(each.next - 1)} cannot be read: `, text(each.message))),
    table({
      id: `letters ${state.stream}`, label: `dead letters of ${printable(state.stream)}`,
      rows: document.letters ?? [], columns: allowed() ? [CHOICE, ...COLUMNS] : COLUMNS,
      rowKey: (row) => row.offset, open: opened, none: "All of its dead letters were settled.",
      filter: (row) => [row.reason, row.error, row.group, row.value?.text, row.key?.text],
    }),
    pager(document));
}

function pager({ next, letters: shown }) {
  const hasNext = next !== null && next !== undefined && shown?.length;
  if (!hasNext && state.pages.length === 1) return null;
  const go = (pages) => {
    Object.assign(state, { pages, loadedAt: 0, chosen: new Set() });
    drawAgain();
    loadLetters().catch(() => {}).then(drawAgain);
  };
  return h("div", { class: "pager" },
    h("button", {
      type: "button", class: "button", disabled: state.pages.length === 1,
      on: { click: () => go(state.pages.slice(0, -1)) },
    }, "Before"),
    h("span", { class: "note" }, `page ${state.pages.length}`),
    h("button", {
      type: "button", class: "button", disabled: !hasNext,
      on: { click: () => go([...state.pages, next]) },
    }, "After"));
}

const CHOICE = {
  key: "choice", title: "Choose",
  cell: (row) => h("input", {
    type: "checkbox", class: "check", checked: state.chosen.has(row.offset),
    "aria-label": `Choose letter ${row.offset}`, on: { change: (event) => {
      if (event.target.checked) state.chosen.add(row.offset);
      else state.chosen.delete(row.offset);
      drawAgain();
    } },
  }),
};

const COLUMNS = [
  { key: "offset", title: "Offset", num: true, cell: (row) => count(row.offset), sort: (row) => row.offset },
  { key: "reason", title: "Reason", cell: (row) => badge(printable(row.reason), "warn"),
    sort: (row) => row.reason },
  { key: "group", title: "Group", cell: (row) => text(row.group || "-"), sort: (row) => row.group },
  { key: "error", title: "Error", wide: true, cell: (row) => cut(row.error || "none"),
    sort: (row) => row.error },
  { key: "value", title: "Value", wide: true, cell: (row) => h("code", null, cut(row.value?.text, 120)) },
  { key: "attempts", title: "Attempts", num: true, cell: (row) => count(row.attempts),
    sort: (row) => row.attempts },
  { key: "died", title: "Died ago", num: true, sort: (row) => row.last_us,
    cell: (row) => h("span", { title: moment(row.last_us) }, agoText(row.last_us)) },
];

function agoText(timeUs) {
  const now = model.overview?.server_time_us;
  return now && timeUs ? age((now - timeUs) / 1e6) : "-";
}

function cut(value, most = 160) {
  const whole = String(value ?? "");
  return text(whole.length > most ? `${whole.slice(0, most)}…` : whole);
}

function opened(row) {
  const held = (data) => [h("pre", null, text(data.text)),
    data.bytes > 1024 && h("p", { class: "note" }, `the first KiB of ${bytes(data.bytes)}`)];
  return [
    facts([
      ["From", [text(row.source_stream), ` partition ${count(row.source_partition)}, offset ` +
        count(row.source_offset)]],
      ["First out", moment(row.first_us)],
      ["Died", moment(row.last_us)],
      ["Redriven before", plural(row.redriven ?? 0, "time")],
      ["Size", bytes(row.value?.bytes)],
    ], { class: "facts-wide" }),
    row.error && [h("h3", null, "Error"), h("pre", null, text(row.error))],
    row.key && [h("h3", null, "Key"), held(row.key)],
    h("h3", null, "Value"), row.value && held(row.value),
    row.headers?.length > 0 && [h("h3", null, `Headers (${count(row.headers_count)})`),
      row.headers.map((each) => h("div", { key: each.name }, h("b", null, text(each.name)), held(each)))],
  ];
}

// ------------------------------------------------------------------------------------ redrive

function buttons(waiting) {
  const chosen = state.chosen.size;
  const all = letters().length;
  return h("div", { class: "actions" },
    h("button", {
      type: "button", class: "button", disabled: !all || state.working, on: { click: () => {
        state.chosen = new Set(chosen === all ? [] : letters().map((each) => each.offset));
        drawAgain();
      } },
    }, chosen === all && all ? "Choose none" : "Choose all shown"),
    h("button", {
      type: "button", class: "button primary", disabled: !chosen || state.working,
      on: { click: () => ask({ count: chosen, ranges: ranges([...state.chosen]) }) },
    }, chosen ? `Redrive ${count(chosen)} chosen` : "Redrive chosen"),
    h("button", {
      type: "button", class: "button primary", disabled: state.working,
      on: { click: () => ask({ count: waiting, end: page()?.partitions?.[0]?.end }) },
    }, state.working ? "Redriving …" : `Redrive all ${count(waiting)}`));
}

function ask(job) {
  state.asking = { ...job, stream: state.stream };
  drawAgain();
}

// Offsets as first, end, first, end, ...
function ranges(offsets) {
  const found = [];
  for (const offset of offsets.sort((one, other) => one - other)) {
    if (found.at(-1) === offset) found[found.length - 1] = offset + 1;
    else found.push(offset, offset + 1);
  }
  return found;
}

function dialog() {
  const job = state.asking;
  if (!job) return null;
  const close = () => document.getElementById("confirm")?.close();
  return h("dialog", {
    id: "confirm", key: "confirm", class: "dialog", "aria-labelledby": "confirm-title",
    ref: (node) => queueMicrotask(() => node.showModal()),
    on: { close: () => { state.asking = null; drawAgain(); } },
  },
  h("h2", { id: "confirm-title" }, `Redrive ${plural(job.count, "letter")}?`),
  h("p", null, "They are appended to ", h("b", null, text(job.stream)), " again, with new offsets ",
    "at its end, and every group of it sees them. This cannot be taken back."),
  h("div", { class: "actions" },
    h("button", { type: "button", class: "button", on: { click: close } }, "Cancel"),
    h("button", {
      type: "button", class: "button primary", id: "confirm-yes",
      on: { click: () => { close(); redrive(job); } },
    }, "Redrive")));
}

// In portions, as the daemon takes them: `left` says how many it did not get to.
async function redrive({ stream, ranges: chosen, end }) {
  const body = { stream, partition: 0, ...(chosen ? { ranges: chosen } : { end }) };
  Object.assign(state, { working: true, said: null });
  let done = 0;
  try {
    for (let left = 1; left > 0;) {
      const answer = await post("/api/redrive", body);
      done += answer.redriven;
      left = answer.redriven > 0 ? answer.left : 0;
      state.said = { kind: "fine", text: `${plural(done, "letter")} sent again.` };
      drawAgain();
    }
  } catch (error) {
    state.said = { kind: "bad", text: `${plural(done, "letter")} sent again, then: ` +
      printable(error.message) };
  }
  Object.assign(state, { working: false, loadedAt: 0, chosen: new Set(), pages: [0] });
  drawAgain();
}
