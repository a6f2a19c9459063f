"""Pictures: functions from arrays to figures or files. Nothing here runs a generator.

colours.py has every colour, and sheets.py lays tiles out. parts.py draws the parts of a fit, figures.py its plots
(convergence, spectrum) and plain images, overlays.py parts on images, maps.py saliency, strips.py and edits.py edited
samples. pages.py makes HTML. The packages of the catalog, the comparison and the explorer make their own pages.
The names listed here are public: matplotlib figures, which a notebook shows.
"""

from panda_jax.pictures.figures import convergence_figure, spectrum_figure
from panda_jax.pictures.maps import saliency_figure
from panda_jax.pictures.overlays import overlay_figure
from panda_jax.pictures.parts import parts_figure
from panda_jax.pictures.strips import grid_figure, strip_figure

__all__ = [
  'convergence_figure',
  'grid_figure',
  'overlay_figure',
  'parts_figure',
  'saliency_figure',
  'spectrum_figure',
  'strip_figure',
]
