"""The command line: `python -m motion`."""
