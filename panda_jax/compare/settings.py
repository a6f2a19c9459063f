"""The configuration of a comparison: every key there is, with its default."""

import ml_collections
from ml_collections.config_dict import placeholder

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


def default_config() -> ml_collections.ConfigDict:
  """A new configuration; files in `configs/` change some of its values."""
  return ml_collections.ConfigDict(
    {
      'generator': placeholder(str),  # a folder, or cats64
      'truncation': 1.0,
      'truncation_layers': placeholder(int),
      'methods': METHODS + ABLATIONS + CONTROLS,
      'regions': ml_collections.ConfigDict({}, convert_dict=False),  # {name: (r0, r1, c0, c1)} in the image's pixels
      'target': 0.1,  # median root mean square change inside the region, where -1 is black and 1 white
      'candidates': 5,  # of each method, among which the held-out samples choose
      'heldout': 64,  # samples that choose a direction, its sign and its strength
      'test': 256,  # samples that every number of the table is of
      'seed': 1_000_000,  # of the first held-out sample; the test samples follow
      'curve': (0.5, 1.0, 1.5, 2.0),  # strengths of the curves, as multiples of the matched one
      'size': 256,  # images larger than that are averaged down to it before they are compared
      'rows': (4, 5, 6, 7),  # of w+ that the methods which work there move
      'layer': 5,  # PandA's: where features are edited
      'parts': 12,
      'samples': 1000,  # that PandA is fitted on: seeds 0, 1, ...
      'region_samples': 64,  # of these, for our own choice of an appearance for a region
      'reference_seeds': tuple(range(4, 20)),  # of the images whose Jacobians LowRankGAN and ReSeFa take
      'published': False,  # the rivals as published, with their quirks, instead of as they were meant
      'batch': 32,  # images at a time
      'bootstrap': 1000,
      'realism_samples': 2000,  # unedited images that span the space of the realism guard
      'isolated': True,  # discover in a process of its own for each method, so that its peak memory can be told
    }
  )
