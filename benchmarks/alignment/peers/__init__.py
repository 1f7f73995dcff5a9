"""Plain TRL scripts, as in its documentation."""
