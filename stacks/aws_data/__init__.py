"""Facts about AWS that synthesis needs and must not look up: tables with a date and a source."""
