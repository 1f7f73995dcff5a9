"""Constitutional AI: training data from prompts, principles and a judge, without human labels.

Bai et al. 2022, arXiv:2212.08073. `prompt_templates.py` has the questions to the judge,
`pipeline.py` turns prompts into rows, and `build.py` runs it with a journal, so that a stopped run
resumes.
"""

from training.methods.constitutional.build import write

__all__ = ["write"]
