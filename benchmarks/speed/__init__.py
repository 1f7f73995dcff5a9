"""Training speed against plain TRL and a bare loop: `make bench`."""
