"""A model that others can load: saved, merged, described."""
