"""Inversion: a photograph's placement, the latents and features that reproduce it, and pasting edits back.

`invert` is the main function. This package imports generators, what they import, and the space of `regions.realism`;
it imports neither fits nor pictures.
"""
