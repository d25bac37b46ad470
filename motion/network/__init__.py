"""What a motion module is (architecture), what it computes (temporal, model) and where it goes (sites)."""
