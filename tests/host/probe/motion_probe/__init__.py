"""A test-only extension that looks at the host from inside: facts that must not change, and faults on demand."""
