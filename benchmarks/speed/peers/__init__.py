"""The scripts a person would write without Temper; each prints nothing and notes its steps."""
