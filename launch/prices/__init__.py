"""Prices from AWS's price list, for those who have credentials."""
