"""The configuration of a comparison: every key, with its default and its meaning."""

import ml_collections
from ml_collections.config_dict import placeholder

from panda_jax.workdir.config import Key, defaults

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
ABLATIONS = (
  'panda_refined',
  'panda_published',
  'panda_frozen',
  'panda_orthonormal',
  'panda_centered',
  'pca_parts',
)
CONTROLS = ('random_direction', 'random_part')


KEYS = {
  'generator': Key(placeholder(str), 'Folder of a generator, or cats64.'),
  'truncation': Key(1.0, 'Factor by which latents are truncated; 1 for no truncation.'),
  'truncation_layers': Key(placeholder(int), 'Number of w+ rows that are truncated, from the first; all if left out.'),
  'methods': Key(METHODS + ABLATIONS + CONTROLS, 'Methods that are compared.'),
  'regions': Key(
    ml_collections.ConfigDict({}, convert_dict=False),
    'Regions {name: (r0, r1, c0, c1)}, in pixels; can be given in a configuration file only.',
  ),
  'cases': Key(
    ml_collections.ConfigDict({}, convert_dict=False),
    'Several comparisons {name: {key: value}}, each with its own values of other keys, such as generator, layer and '
    'regions; can be given in a configuration file only.',
  ),
  'target': Key(
    0.1, 'Change inside the region that all methods are matched to: median RMS, where -1 is black and 1 white.'
  ),
  'candidates': Key(5, 'Candidates of each method; the held-out samples choose one.'),
  'heldout': Key(64, 'Number of samples that choose a direction, its sign and its strength.'),
  'test': Key(256, 'Number of samples behind every number of the table.'),
  'seed': Key(1_000_000, 'Seed of the first held-out sample; the test samples follow.'),
  'curve': Key((0.5, 1.0, 1.5, 2.0), 'Strengths on the curves, as multiples of the matched strength.'),
  'size': Key(256, 'Largest side of the images that are compared, in pixels; larger ones are averaged down.'),
  'rows': Key((4, 5, 6, 7), 'Rows of w+ that are moved by the methods that edit w+.'),
  'layer': Key(5, 'Layer at which PandA edits features.'),
  'parts': Key(12, 'Number of parts that PandA fits, R_S.'),
  'samples': Key(1000, 'Number of samples that PandA is fitted on, with seeds from 0.'),
  'region_samples': Key(64, 'Number of samples from which our own method chooses an appearance for a region.'),
  'reference_seeds': Key(tuple(range(4, 20)), 'Seeds of the images whose Jacobians LowRankGAN and ReSeFa use.'),
  'published': Key(False, 'Run the other methods as published, with their mistakes.'),
  'batch': Key(32, 'Images computed at a time.'),
  'bootstrap': Key(1000, 'Number of resamplings behind each interval.'),
  'realism_samples': Key(2000, 'Number of unedited images that define the space of the realism score.'),
  'isolated': Key(True, 'Run each discovery in its own process, to measure its peak memory.'),
}


def default_config() -> ml_collections.ConfigDict:
  """A new configuration; files in `configs/` change some of its values."""
  return defaults(KEYS)
