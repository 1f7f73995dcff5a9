"""Quality of rows, by a classifier that is trained on good and bad examples of the user."""
