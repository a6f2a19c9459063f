"""Files that people and machines pass around: regular files only, read within bounds, written whole or not at all.

access.py opens, reads and writes. records.py is for JSON of a given form, arrays.py for .npy and .npz, rows.py for
arrays written a batch at a time, stores.py (with zstd.py) for folders of weights. links.py refuses symbolic links,
lock.py lets one process write and swaps.py replaces one folder by another. cache.py keeps what can be made again.
Nothing here knows what a file is about.
"""
