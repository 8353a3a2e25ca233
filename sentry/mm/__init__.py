"""Memory of guests: mappings, and what is mapped where."""
