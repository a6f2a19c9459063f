"""Edits that find themselves: all pairs of a part and an appearance looked through, the best laid out.

screening.py scores every pair by first derivatives, measuring.py makes edits for real, finding.py chooses, writing.py
writes catalog.json and what goes with it, sheet.py and page.py lay it out.
"""

from panda_jax.catalog.finding import Found, Settings, find
from panda_jax.catalog.writing import catalog_into

__all__ = ['Found', 'Settings', 'catalog_into', 'find']
