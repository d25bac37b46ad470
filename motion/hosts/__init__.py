"""The places the core runs in; each adapter knows one host, and no other module knows any."""
