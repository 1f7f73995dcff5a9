"""Models behind endpoints, evaluated."""
