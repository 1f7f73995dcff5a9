"""AWS facts that synthesis needs but must not look up: tables with a date and a source."""
