"""Other extensions of a WebUI: what clips meet there."""
