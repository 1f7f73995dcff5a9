"""Planning, submitting and inspecting runs from the user's machine. Imports no torch."""
