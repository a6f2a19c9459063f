"""Our own method: an appearance and a mask for a region of the image.

region_edit.py is the front door and the derivation, search.py its steps, responses.py the derivatives they use.
metrics.py (ROIR and friends) and realism.py judge edits of any method.
"""
