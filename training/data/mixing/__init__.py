"""Selection of rows: sampling weights, replay, packing, duplicate detection."""
