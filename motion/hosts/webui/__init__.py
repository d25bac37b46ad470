"""The WebUIs: which one this is, where its parts are, and one job of its as a clip."""
