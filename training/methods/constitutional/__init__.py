"""Constitutional AI: rows to learn from, out of prompts, principles and a judge.

Bai et al. 2022, arXiv:2212.08073. `asking.py` words the questions, `journal.py` keeps what came of
each prompt, `build.py` goes from the one to the other.
"""

from training.methods.constitutional.build import write

__all__ = ["write"]
