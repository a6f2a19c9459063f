"""Our own method: an appearance and a mask for a region of the image.

region_edit.py has the public functions and the derivation, search.py the steps, responses.py the derivatives.
metrics.py (ROIR), fidelity.py (PSNR, SSIM) and realism.py (Fréchet distance) judge edits of any method.
"""
