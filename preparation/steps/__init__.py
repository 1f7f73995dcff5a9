"""Steps of a preparation, one per file: its section of the job, and the rule that it runs."""
