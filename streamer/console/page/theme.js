// Dark or light, before anything is drawn: the page must not flash in the other one. A classic
// script, since modules run only after the page has been read.
"use strict";
(() => {
  const KEY = "streamer.theme";
  const KNOWN = ["auto", "light", "dark"];

  function stored() {
    try {
      const found = localStorage.getItem(KEY);
      return KNOWN.includes(found) ? found : "auto";
    } catch {
      return "auto"; // No storage here: the system's own it is.
    }
  }

  function apply(theme) {
    document.documentElement.dataset.theme = theme;
  }

  window.streamerTheme = {
    get: stored,
    next() {
      const theme = KNOWN[(KNOWN.indexOf(stored()) + 1) % KNOWN.length];
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // It holds until the page is left.
      }
      apply(theme);
      return theme;
    },
  };
  apply(stored());
})();
