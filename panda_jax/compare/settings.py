"""The configuration of a comparison: every key there is, with its default and its meaning."""

import ml_collections
from ml_collections.config_dict import placeholder

from panda_jax.workdir.config import Key

METHODS = (
  'sefa',
  'ganspace',
  'stylespace',
  'lowrankgan',
  'resefa',
  'panda',
  'panda_region',
  'panda_joint',
)
ABLATIONS = ('panda_refined', 'panda_published', 'panda_frozen', 'panda_orthonormal', 'pca_parts')
CONTROLS = ('random_direction', 'random_part')


KEYS = {
  'generator': Key(placeholder(str), 'Folder of a generator, or cats64.'),
  'truncation': Key(1.0, 'Truncation of the latents; 1 for none.'),
  'truncation_layers': Key(placeholder(int), 'How many of the first w+ rows are truncated; all if left out.'),
  'methods': Key(METHODS + ABLATIONS + CONTROLS, 'What is compared.'),
  'regions': Key(
    ml_collections.ConfigDict({}, convert_dict=False), "{name: (r0, r1, c0, c1)} in the image's pixels; in a file only."
  ),
  'target': Key(0.1, 'Median root mean square change inside the region, where -1 is black and 1 white.'),
  'candidates': Key(5, 'Of each method, among which the held-out samples choose.'),
  'heldout': Key(64, 'Samples that choose a direction, its sign and its strength.'),
  'test': Key(256, 'Samples that every number of the table is of.'),
  'seed': Key(1_000_000, 'Of the first held-out sample; the test samples follow.'),
  'curve': Key((0.5, 1.0, 1.5, 2.0), 'Strengths of the curves, as multiples of the matched one.'),
  'size': Key(256, 'Images larger than that are averaged down to it before they are compared.'),
  'rows': Key((4, 5, 6, 7), 'Of w+ that the methods which work there move.'),
  'layer': Key(5, "PandA's: where features are edited."),
  'parts': Key(12, 'R_S of the fit.'),
  'samples': Key(1000, 'That PandA is fitted on: seeds 0, 1, ...'),
  'region_samples': Key(64, 'Of these, for our own choice of an appearance for a region.'),
  'reference_seeds': Key(tuple(range(4, 20)), 'Of the images whose Jacobians LowRankGAN and ReSeFa take.'),
  'published': Key(False, 'The rivals as published, with their quirks, instead of as they were meant.'),
  'batch': Key(32, 'Images at a time.'),
  'bootstrap': Key(1000, 'Resamplings behind each interval.'),
  'realism_samples': Key(2000, 'Unedited images that span the space of the realism guard.'),
  'isolated': Key(True, 'Discover in a process of its own for each method, so that its peak memory can be told.'),
}


def default_config() -> ml_collections.ConfigDict:
  """A new configuration; files in `configs/` change some of its values."""
  return ml_collections.ConfigDict({name: key.default for name, key in KEYS.items()})
