"""All pairs of a part and an appearance searched for edits worth seeing, and the best laid out on a page.

screening.py scores every pair by first derivatives, measurement.py makes edits for real, search.py chooses, names.py
says in words where they are and what they do, output.py writes catalog.json and what goes with it, sheet.py and page.py
lay it out.
"""

from panda_jax.catalog.output import catalog_into
from panda_jax.catalog.search import Found, Settings, find

__all__ = ['Found', 'Settings', 'catalog_into', 'find']
