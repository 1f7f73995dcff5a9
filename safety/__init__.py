"""What a model does when it is provoked, and whom its answers favour: measured, with a gate."""
