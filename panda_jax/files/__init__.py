"""Files that users exchange: only regular files, read with limits on size, and written completely or not at all.

access.py opens, reads and writes. records.py reads JSON of a given form, arrays.py .npy and .npz; rows.py writes arrays
a batch at a time; stores.py (with zstd.py) handles folders of weights. links.py refuses symbolic links, lock.py lets
one process write, and swaps.py replaces a folder by another. cache.py keeps results that can be computed again.
Nothing here depends on the content of a file.
"""
