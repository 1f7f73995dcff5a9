"""Identification of languages: the step, the detectors behind it, and the codes that it knows."""
