"""Every colour of the pictures, chosen also for colour-blind readers and for grey printers."""

from panda_jax.runtime import notebook

PARTS = notebook.PALETTE  # and other maps with exact zeros
HEAT = 'RdBu_r'  # of saliency: blue below the threshold, white at it, red above; both are darker than white
DIFFERENCES = 'inferno'  # of edits, inside a region or outside: black where nothing changed
INK, SOFT, FAINT = '#222222', '#6b6b6b', '#9a9a9a'  # words, notes, lines behind others
GRID, FRAME = '#dddddd', '#666666'  # grid lines of plots; frames of swatches and colour bars
# Of curves, each with its own marker.
SERIES = (
  ('#0072b2', 'o'),
  ('#d55e00', 's'),
  ('#009e73', '^'),
  ('#cc79a7', 'D'),
  ('#56b4e9', 'v'),
  ('#e69f00', 'P'),
  ('#000000', 'X'),
)
MORE_SERIES = (*SERIES, ('#7a5c00', '*'))  # of comparisons, which have more curves
# Of parts over images. Found by a search around Okabe and Ito's colours: the least distance of two colours in CIELAB is
# 25 for readers without any one kind of cone, 50 for others.
OVERLAY = ((230, 138, 14), (0, 107, 196), (232, 240, 113), (170, 87, 151), (0, 131, 81), (2, 203, 255))
PALE = 110, 250  # the greys of an image below opaque colours
EDGE = (176, 176, 176)  # the outline of cut-outs, which may be as white as the page
