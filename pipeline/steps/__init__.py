"""Kinds of steps on this machine, one file each."""
