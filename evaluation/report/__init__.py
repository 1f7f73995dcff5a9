"""Report of an evaluation: one page without external resources."""
