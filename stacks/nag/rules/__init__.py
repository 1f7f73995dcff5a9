"""One rule per file. The file's name is the rule's; its docstring is the rule."""
