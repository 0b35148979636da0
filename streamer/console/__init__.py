"""The console: a web page that the daemon serves, and what stands behind it in Python.

- `page/` is the page: HTML, CSS and ES modules as they are served. There is no build step, and the
  page loads nothing from anywhere but the daemon.
- `assets` reads it and says with which headers it goes out.
- `guards` says which requests come from our own page and which from somebody else's.
- `letters` reads dead letters for it.

The routes are in `streamer.daemon.console`.
"""
