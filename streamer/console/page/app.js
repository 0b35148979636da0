// The frame of the page: polls, chooses the view, says when the daemon is away.
//
// One request is under way at most, a poll begins a second after the one before did, and a tab that
// nobody sees asks for nothing.

import { Refused } from "./api.js";
import { attention } from "./attention.js";
import { h, render } from "./dom.js";
import { age, clock, count, printable } from "./format.js";
import { loadOverview, model } from "./model.js";
import { badge, empty, onRedraw, panel } from "./parts.js";
import { config } from "./view_config.js";
import { dead } from "./view_dead.js";
import { events } from "./view_events.js";
import { groups } from "./view_groups.js";
import { levels } from "./view_levels.js";
import { overview } from "./view_overview.js";
import { pipelines } from "./view_pipelines.js";
import { sessions } from "./view_sessions.js";
import { streams } from "./view_streams.js";

const POLL_MS = 1000;
const VIEWS = [overview, pipelines, streams, groups, dead, sessions, events, levels, config];
const app = document.getElementById("app");
let theme = window.streamerTheme?.get() ?? "auto";
let wake = () => {};
let drawing = false;

function view() {
  const id = location.hash.slice(1).split("?")[0];
  return VIEWS.find((each) => each.id === id) ?? overview;
}

async function poll() {
  try {
    await loadOverview();
    model.refused = null;
    await view().load?.(model);
    model.away = null;
  } catch (error) {
    if (error instanceof Refused && error.status !== 503) {
      // It is there, and does not want to: what it says is better than what we could.
      model.refused = error.message;
      model.away = null;
    } else {
      model.away = { sinceMs: model.away?.sinceMs ?? Date.now(), why: error.message };
      if (!(error instanceof Refused) && error.name !== "Error") console.error(error);
    }
  }
}

async function run() {
  for (;;) {
    if (document.hidden) await until(document, "visibilitychange");
    const began = performance.now();
    await poll();
    draw();
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, Math.max(50, began + POLL_MS - performance.now()));
    });
  }
}

function until(target, event) {
  return new Promise((resolve) => target.addEventListener(event, resolve, { once: true }));
}

// At most once a frame, however many ask for it.
function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(draw);
}

function draw() {
  drawing = false;
  const shown = view();
  document.title = `${shown.title} · streamer`;
  render(app, header(), nav(shown),
    h("main", { id: "main", key: "main", tabindex: -1, class: model.away ? "stale" : "" },
      h("h1", { class: "unseen", key: "title" }, shown.title),
      h("div", { key: shown.id, class: "view" }, content(shown))),
    banner());
}

function content(shown) {
  if (model.refused) return panel("The daemon refuses", null, empty(printable(model.refused)));
  if (!model.overview) return h("p", { class: "starting" }, "Asking the daemon …");
  try {
    return shown.draw(model);
  } catch (error) {
    // A newer daemon may mean something else by a key. The other views need not suffer from it.
    return panel("This cannot be shown", null,
      empty("The daemon says something that this page does not understand: ",
        printable(error.message)));
  }
}

function header() {
  const { overview: known } = model;
  return h("header", { class: "top", key: "top" },
    h("a", { class: "brand", href: "#overview" },
      h("img", { src: "/console/icon.svg", alt: "", width: 22, height: 22 }), "streamer"),
    known && h("span", { class: "version" }, printable(known.version)),
    health(known),
    h("span", { class: "top-fact" }, known ? `up ${age(known.uptime_s)}` : ""),
    h("span", { class: "top-fact clock" }, known ? clock(known.server_time_us) : ""),
    h("button", {
      type: "button", class: "button theme", "aria-label": `Theme: ${theme}`,
      title: `Theme: ${theme}`, on: { click: () => {
        theme = window.streamerTheme?.next() ?? theme;
        draw();
      } },
    }, { auto: "◐", light: "☀", dark: "☾" }[theme]));
}

function health(known) {
  if (model.away) return badge("away", "bad");
  if (!known?.health) return badge(known ? "unknown" : "…", "plain");
  const { ok, ready } = known.health;
  if (!ok) return badge("failing", "bad");
  return ready ? badge("healthy", "fine") : badge("not ready", "warn");
}

function nav(shown) {
  return h("nav", { class: "nav", key: "nav", "aria-label": "Views" },
    VIEWS.map((each) => {
      const mark = marked(each);
      return h("a", {
        key: each.id, href: `#${each.id}`, class: "nav-link",
        "aria-current": each === shown ? "page" : undefined,
      }, each.title, mark && h("span", { class: `nav-mark nav-${mark.kind ?? "plain"}` },
        mark.text));
    }));
}

function marked(each) {
  try {
    return model.overview && markOf(each);
  } catch {
    // See `content`: the view itself says what is odd.
    return null;
  }
}

function markOf(each) {
  if (each !== overview) return each.mark?.(model.overview) ?? null;
  const { found } = attention(model.overview);
  const bad = found.some(({ level }) => level === "error");
  return found.length ? { text: count(found.length), kind: bad ? "bad" : "warn" } : null;
}

function banner() {
  return h("div", { class: "banners", key: "banners", role: "status" },
    model.away && h("p", { class: "banner banner-bad", key: "away" },
      h("b", null, `The daemon has been away for ${age((Date.now() - model.away.sinceMs) / 1000)}. `),
      `${model.away.why}. Trying again each second; what is shown is from before.`),
    isOtherVersion() && h("p", { class: "banner", key: "version" },
      `The daemon is ${printable(model.overview.version)} now, this page is of ` +
      `${printable(model.pageVersion)}. `,
      h("button", { type: "button", class: "button", on: { click: () => location.reload() } },
        "Reload")));
}

function isOtherVersion() {
  return model.overview?.version && model.pageVersion !== model.overview.version;
}

function turned() {
  draw();
  wake();
  // On a phone the views are a strip that scrolls.
  document.querySelector(".nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  window.scrollTo(0, 0);
}

app.replaceChildren();
onRedraw(drawSoon);
window.addEventListener("hashchange", turned);
document.addEventListener("keydown", (event) => {
  // As in many a list: / leads to the filter.
  const typing = event.target.closest("input, textarea, select");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const filter = document.querySelector("input[type=search]");
  if (filter) {
    event.preventDefault();
    filter.focus();
  }
});
turned();
run();
