"""A catalog of edits: a search over all pairs of a part and an appearance, and a page of the best ones.

screening.py scores every pair by first derivatives, measurement.py measures actual edits, search.py chooses, names.py
describes in words where edits are and what they change, output.py writes catalog.json and the other files, sheet.py and
page.py draw the catalog.
"""

from panda_jax.catalog.output import catalog_into
from panda_jax.catalog.search import Found, Settings, find

__all__ = ['Found', 'Settings', 'catalog_into', 'find']
