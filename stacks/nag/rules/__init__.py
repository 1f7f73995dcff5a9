"""Rules of the Temper pack, one module per rule.

The name of the module is the name of the rule, and the first paragraph of its docstring is the text
in the validation report.
"""
