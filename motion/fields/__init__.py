"""What a row of a field table can do: low, so that whatever has settings can describe them."""
