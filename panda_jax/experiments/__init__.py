"""Many fits at once: run as a sweep, and looked at together.

cells.py has the runs of a sweep, their settings and names; sweep.py does them. runs.py reads what fits have left in
folders, agreement.py compares parts, table.py writes runs as rows, recommendation.py chooses a number of parts and says
why, curves.py and page.py draw. What one fit writes is in workdir/fit.py.
"""

FORMATS = ('table', 'csv', 'json', 'markdown')  # of tables; here, since --help tells them before much is imported
