"""zactor."""
