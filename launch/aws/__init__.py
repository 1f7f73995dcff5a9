"""The account: who asks, what the platform published, what a job's request is."""
