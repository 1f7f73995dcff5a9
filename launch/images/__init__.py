"""Container images of an environment: build, scan, approval, promotion."""
