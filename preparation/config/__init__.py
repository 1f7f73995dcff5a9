"""Job file of a preparation."""
