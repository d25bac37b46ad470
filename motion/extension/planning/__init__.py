"""From the tab's settings to a job: what is found, opened and refused before the host does anything."""
