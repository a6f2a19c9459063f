"""`saliency`: where appearances are in images."""

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.commands import sentences
from panda_jax.commands.refine import define_explained, explained_folder, options_of
from panda_jax.workdir import SALIENCY_STATISTICS

EXAMPLES = (
  'saliency --workdir=DIR --appearance=0,1,2 --seeds=0-5',
  'saliency --workdir=DIR --appearance=0 --features=FILE.npy',
)


def define(values: flags.FlagValues) -> None:
  given = {'flag_values': values, 'module_name': 'saliency'}
  flags.DEFINE_string('appearance', None, 'Appearances to show: 0, or 0,3.', **given)
  flags.DEFINE_string('threshold', None, 'Threshold of the masks: mean, otsu, or a number. If left out, mean.', **given)
  flags.DEFINE_string('masks', None, 'Masks to compare with: a .npy file (N, h, w).', **given)
  shared.statistics(values, SALIENCY_STATISTICS, 'generator', 'thresholds and ranges are computed')
  define_explained(values, 'saliency, the appearances and other flags that were given')


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.commands import requests
  from panda_jax.files.arrays import read_npy
  from panda_jax.runtime.progress import Progress
  from panda_jax.workdir.saliency import saliency_into
  from panda_jax.workdir.samples import first_seeds

  opened = requests.given_fit(options)
  samples, features = requests.given_to_explain(options, opened, first_seeds(opened))
  chosen = requests.parsed_indices(options.appearance, 'appearance')
  out = explained_folder(options, 'saliency', chosen, 'threshold', 'masks', 'samples', 'seeds')
  with Progress() as progress:
    shapes, _ = saliency_into(
      out,
      opened,
      chosen,
      samples,
      options_of(options, call, progress),
      features=features,
      layout=options.layout,
      threshold=requests.parsed_method(options.threshold),
      statistics=SALIENCY_STATISTICS if options.samples is None else options.samples,
      given_masks=None if options.masks is None else read_npy(options.masks, 'masks', (3,)),
    )
  sentences.print_written(out, shapes, 'saliency.png', 'masks.png', 'statistics.json')
