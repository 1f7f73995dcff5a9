"""Recognizer of personal data: a small network that is trained from templates and ships."""
