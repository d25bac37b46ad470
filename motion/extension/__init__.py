"""The extension's side that WebUI users see: page, API, infotext, axes. Imported by the host alone."""
