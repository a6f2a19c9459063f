"""Photographs in: their place in a generator's frame, the latents and features that make them, and the way back.

`invert` is the door. It imports the generators, what is below them, and the space of `regions.realism`; it knows
nothing of fits, nor of pictures.
"""
