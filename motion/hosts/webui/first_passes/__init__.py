"""First passes that a WebUI's samplers run otherwise: several times, back on their way, or backwards first."""
