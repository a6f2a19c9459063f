"""Many fits: run as a sweep, and compared.

cells.py defines the runs of a sweep, their settings and names; sweep.py runs them, jobs.py in several processes.
runs.py reads the folders of fits, agreement.py compares parts, table.py writes runs as rows, recommendation.py chooses
a number of parts with a reason, curves.py and page.py draw. A single fit is in workdir/fit.py.
"""

FORMATS = ('table', 'csv', 'json', 'markdown')  # of tables; here, since --help lists them and must not import much
