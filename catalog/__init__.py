"""Catalog of facts with date and source: accelerators, instances, prices. Imports no torch."""
