"""Images for GPU and Trainium, and what runs in them first."""
