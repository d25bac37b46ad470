"""Motion modules: one layer, a file of them, and the families."""
