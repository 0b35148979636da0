// Talks to the daemon, one request at a time: a daemon that is slow is not asked faster for it.

const TIMEOUT_MS = 5000;
let last = Promise.resolve();

// The daemon answered, and refused.
export class Refused extends Error {
  constructor(status, document) {
    super(document?.message || `the daemon answered with status ${status}`);
    this.status = status;
    this.code = document?.error ?? "";
  }
}

// There is no answer: `message` says why, as far as a browser knows.
export class Away extends Error {}

export function get(path, args = {}) {
  const query = new URLSearchParams(args).toString();
  return inTurn(() => ask(query ? `${path}?${query}` : path, { method: "GET" }));
}

export function post(path, document) {
  const headers = { "content-type": "application/json", "x-streamer-console": "1" };
  return inTurn(() => ask(path, { method: "POST", headers, body: JSON.stringify(document) }, 60_000));
}

function inTurn(job) {
  const mine = last.then(job, job);
  last = mine.catch(() => {});
  return mine;
}

async function ask(path, options, timeoutMs = TIMEOUT_MS) {
  let response, document;
  try {
    response = await fetch(path, {
      ...options,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(timeoutMs),
    });
    document = await response.json();
  } catch (error) {
    if (response && !response.ok) throw new Refused(response.status, null);
    if (error.name === "TimeoutError") throw new Away(`no answer within ${timeoutMs / 1000} s`);
    throw new Away("it cannot be reached");
  }
  if (!response.ok) throw new Refused(response.status, document);
  return document;
}
