"""The accordion and what is in it."""
