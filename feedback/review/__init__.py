"""Blind review of pairs of answers by people, on a page that this machine serves."""
