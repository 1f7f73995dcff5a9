"""Plain TRL scripts, as its documentation has them."""
