"""Preference methods on human preferences, measured on held-out rows."""
