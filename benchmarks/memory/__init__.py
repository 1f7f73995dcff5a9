"""What a plan says of memory, against what is measured and what other estimators say."""
