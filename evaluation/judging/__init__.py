"""Judgement of answers by models: ratings, comparisons in both orders, panels, and their errors."""
