"""Suites of well-known sets, which read the files of the sets from the working directory."""
