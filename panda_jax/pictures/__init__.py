"""Every figure: functions from arrays to files.

figures.py draws a fit (parts, convergence, spectrum) and plain images; overlays.py parts on images, maps.py saliency,
strips.py and edits.py edited samples; sheets.py lays tiles out, pages.py makes HTML. Nothing here runs a generator.
"""
