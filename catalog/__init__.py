"""Facts with a date and a source. No torch, no AWS."""
