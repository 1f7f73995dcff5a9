"""What each role may do: one file per role, each returning its statements."""
