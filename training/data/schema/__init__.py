"""Row schemas: detection of a file's columns, conversation parsing, typed rows."""
