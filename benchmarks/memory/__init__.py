"""Planned memory compared with measured memory and with other estimators."""
