"""Sandboxed execution of generated code: a seccomp filter and a runner of two processes."""
