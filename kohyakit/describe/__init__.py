"""Parameters in words: one explained, all as a table, all as a JSON Schema for editors."""
