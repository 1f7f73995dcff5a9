"""What a key that is left out means, and what null does."""

from __future__ import annotations
