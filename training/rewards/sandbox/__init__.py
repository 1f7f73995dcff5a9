"""Sandboxed execution of generated code: seccomp filter and two-process runner."""
