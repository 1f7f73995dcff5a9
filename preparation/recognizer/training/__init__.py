"""Training of the recognizer; it needs torch and Faker, which recognition does not."""
