// What needs somebody's attention, since when, and why: read from the overview, worst first.
// Each: {level: "error"|"warning", what, why, since (seconds, or undefined), view}.

import {
  age, bytes, count, duration, isNumber, percent, plural, printable, share,
} from "./format.js";

const FULL = 0.8;
const STUCK_S = 1;
// What passes quicker is not held up, however full its channel is at a moment.
const HELD_S = 0.2;
const BEHIND_S = 60;
const DISK_LEFT = 0.1;
const FILES_USED = 0.85;
const LISTED_MAX = 12;

export function attention(overview) {
  const found = [
    ...ofHealth(overview),
    ...(overview.pipelines ?? []).flatMap(ofPipeline),
    ...(overview.groups ?? []).flatMap(ofGroup),
    ...(overview.streams ?? []).flatMap(ofStream),
    ...(overview.sessions?.shown ?? []).flatMap(ofSession),
    ...(overview.sla?.objectives ?? []).flatMap(ofObjective),
    ...ofMachine(overview),
  ];
  found.sort((one, other) => rank(one) - rank(other) || (other.since ?? 0) - (one.since ?? 0));
  return { shown: found.slice(0, LISTED_MAX), more: Math.max(0, found.length - LISTED_MAX), found };
}

function rank(each) {
  return each.level === "error" ? 0 : 1;
}

function ofHealth({ health, pipelines }) {
  if (!health) return [];
  const crashed = (pipelines ?? []).some((each) => each.state && each.state !== "running");
  return (health.reasons ?? [])
    // A pipeline that is down says so itself, and says more.
    .filter((reason) => !(crashed && String(reason).startsWith("pipeline ")))
    .map((reason) => ({
      level: health.ok ? "warning" : "error", what: printable(reason), why: "", view: "pipelines",
    }));
}

export function fill(channel) {
  const shares = [[channel?.items, channel?.items_max], [channel?.bytes, channel?.bytes_max]]
    .filter(([used, most]) => isNumber(used) && isNumber(most) && most > 0)
    .map(([used, most]) => used / most);
  return shares.length ? Math.max(...shares) : null;
}

export function isHeld(stage) {
  return (fill(stage.channel) ?? 0) >= FULL || (stage.channel?.senders_waiting ?? 0) > 0;
}

function ofPipeline(pipeline) {
  const name = printable(pipeline.name);
  const found = [];
  if (pipeline.state && pipeline.state !== "running") {
    found.push({
      level: "error", what: `pipeline ${name} is ${printable(pipeline.state)}`,
      why: pipeline.last_error ? printable(pipeline.last_error) : "", view: "pipelines",
    });
  }
  const held = (pipeline.stages ?? []).filter((stage) =>
    isHeld(stage) && (stage.channel.oldest_s ?? 0) >= HELD_S);
  if (held.length) {
    // What stands before a full channel waits for it, so the last one that is full is the cause.
    const cause = held[held.length - 1];
    const { channel, service } = cause;
    const why = [
      `its channel is ${percent(fill(channel))} full`,
      channel.senders_waiting > 0 && `${plural(channel.senders_waiting, "sender")} wait`,
      isNumber(service?.p99_s) && `it takes ${duration(service.p99_s)} at p99`,
    ].filter(Boolean);
    found.push({
      level: "warning", what: `${name}/${printable(cause.place)} holds the flow up`,
      why: why.join(", "), since: channel.oldest_s, view: "pipelines",
    });
  } else if (pipeline.oldest_s > STUCK_S) {
    found.push({
      level: "warning", what: `an append to pipeline ${name} waits for its ack`,
      why: "", since: pipeline.oldest_s, view: "pipelines",
    });
  }
  return found;
}

function ofGroup(group) {
  const name = `group ${printable(group.group)} of ${printable(group.stream)}`;
  const late = isNumber(group.oldest_age_s) && group.oldest_age_s > BEHIND_S && group.lag > 0;
  if (!late) return [];
  let why = "its members are slower than what comes in";
  if (group.paused) why = "it is paused";
  else if (group.members === 0) why = "it has no members";
  else if (group.retrying > 0) why = `${plural(group.retrying, "record")} are tried again`;
  else if (group.in_flight >= group.lag) why = "all of them are out with its members";
  return [{
    level: "warning", what: `${name} is ${plural(group.lag, "record")} behind`, why,
    since: group.oldest_age_s, view: "groups",
  }];
}

function ofStream(stream) {
  if (!stream.state || stream.state === "open") return [];
  return [{
    level: "error", what: `stream ${printable(stream.name)} is ${printable(stream.state)}`,
    why: "a partition of it takes no writes", view: "streams",
  }];
}

function ofSession(session) {
  if (!session.slow) return [];
  return [{
    level: "warning",
    what: `session ${printable(session.session)} (${printable(session.name)}) reads too slowly`,
    why: `${bytes(session.outbox_bytes)} wait for it`, view: "sessions",
  }];
}

function ofObjective(objective) {
  if (objective.ok !== false && objective.met !== false) return [];
  const kept = `kept in ${percent(objective.compliance, 1)} of the time, wanted is ` +
    share(objective.objective);
  return [{
    level: objective.met === false ? "error" : "warning",
    what: `service level ${printable(objective.name)} is missed`, why: kept, view: "levels",
  }];
}

function ofMachine({ disk, process, rates }) {
  const found = [];
  if (disk?.total_bytes > 0 && disk.free_bytes / disk.total_bytes < DISK_LEFT) {
    const left = disk.free_bytes / disk.total_bytes;
    found.push({
      level: left < DISK_LEFT / 2 ? "error" : "warning",
      what: `the disk has ${bytes(disk.free_bytes)} left`, why: `${percent(left, 1)} of it`,
      view: "overview",
    });
  }
  if (process?.fds_max > 0 && process.fds / process.fds_max > FILES_USED) {
    found.push({
      level: "warning", what: `${count(process.fds)} of ${count(process.fds_max)} files are open`,
      why: "", view: "overview",
    });
  }
  if (rates?.timeouts > 0) {
    found.push({
      level: "warning", what: "appends time out", view: "events",
      why: `${rates.timeouts.toFixed(1)} a second`,
    });
  }
  return found;
}

export function sinceText(seconds) {
  return isNumber(seconds) ? `since ${age(seconds)}` : "";
}
