"""Files at the root of a grader's archive; they import nothing that Lambda's Python lacks."""
