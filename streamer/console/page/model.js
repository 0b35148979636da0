// What the page knows of the daemon, and how it comes to know it.

import { get } from "./api.js";

const FINE_MAX = 300;
const COARSE_MAX = 360;
const EVENTS_MAX = 500;
// What a view needs besides the overview is asked for less often where it changes less often.
const SLOW_MS = 10_000;

export const model = {
  overview: null,
  history: { fine: noSeries(1), coarse: noSeries(10) },
  events: { list: [], next: 0, missed: 0 },
  config: null,
  configAt: 0,
  // Since when there has been no answer (milliseconds), and why; null while there is.
  away: null,
  // What the daemon refuses altogether: a host name that it does not know, say.
  refused: null,
  // The daemon's version when the page was loaded: the page belongs to that one.
  pageVersion: null,
  // By a key that the view chose: details that are unfolded, dead letters.
  details: new Map(),
};

function noSeries(stepS) {
  return { step_s: stepS, at_us: [], series: {} };
}

export async function loadOverview() {
  const overview = await get("/api/overview");
  if (wasRestarted(model.overview, overview)) forget();
  model.overview = overview;
  model.pageVersion ??= overview.version ?? null;
}

// Another process, or the same number again with less time behind it.
function wasRestarted(before, now) {
  return before !== null && (before.pid !== now.pid || before.uptime_s > now.uptime_s + 1);
}

function forget() {
  model.history = { fine: noSeries(1), coarse: noSeries(10) };
  model.events = { list: [], next: 0, missed: 0 };
  model.details.clear();
  model.config = null;
  model.configAt = 0;
}

export async function loadHistory() {
  const { fine, coarse } = model.history;
  const after = fine.at_us[fine.at_us.length - 1] ?? 0;
  const more = await get("/api/history", { after_us: after });
  model.history = {
    fine: merged(fine, more.fine, FINE_MAX),
    coarse: merged(coarse, more.coarse, COARSE_MAX),
  };
}

function merged(known, more, most) {
  if (!Array.isArray(more?.at_us) || !more.at_us.length) return known;
  const from = known.at_us[known.at_us.length - 1] ?? -Infinity;
  const first = more.at_us.findIndex((us) => us > from);
  if (first < 0) return known;
  const series = {};
  for (const name of new Set([...Object.keys(known.series), ...Object.keys(more.series ?? {})])) {
    const before = known.series[name] ?? known.at_us.map(() => null);
    const after = more.series?.[name]?.slice(first) ?? more.at_us.slice(first).map(() => null);
    series[name] = [...before, ...after].slice(-most);
  }
  const at = [...known.at_us, ...more.at_us.slice(first)].slice(-most);
  return { step_s: more.step_s, at_us: at, series };
}

export async function loadEvents() {
  const { next } = model.events;
  const more = await get("/api/events", { after: next, limit: EVENTS_MAX });
  const known = new Set(model.events.list.map((event) => event.seq));
  const fresh = (more.events ?? []).filter((event) => !known.has(event.seq)).reverse();
  model.events = {
    list: [...fresh, ...model.events.list].slice(0, EVENTS_MAX),
    next: more.next ?? next,
    missed: model.events.missed + (more.missed ?? 0),
  };
}

export async function loadConfig() {
  if (performance.now() - model.configAt < SLOW_MS && model.config) return;
  model.config = await get("/api/config");
  model.configAt = performance.now();
}

// Details by a key, e.g. of rows that are unfolded. One that is gone meanwhile says so in place.
export async function loadDetail(key, path, args) {
  try {
    model.details.set(key, { document: await get(path, args) });
  } catch (error) {
    if (error.status === undefined) throw error;
    model.details.set(key, { error: error.message });
  }
}
