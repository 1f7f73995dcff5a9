"""Methods: each file builds one trainer."""
