"""Training scripts without Temper; each writes a line per optimizer step."""
