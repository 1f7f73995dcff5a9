"""Every preference method on what people really preferred, measured on rows it never saw."""
