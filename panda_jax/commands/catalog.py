"""`catalog`: searches all pairs of a part and an appearance for edits, and shows the best on a page."""

from pathlib import Path

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.commands import sentences

EXAMPLES = ('catalog --workdir=DIR',)


def define(values: flags.FlagValues) -> None:
  shared.workdir(values)
  shared.moved_generator(values)
  shared.out(values, 'WORKDIR/catalog')
  shared.overwrite(values)


def run(options: flags.FlagValues, call) -> None:
  from panda_jax import catalog
  from panda_jax.commands import requests
  from panda_jax.runtime.progress import Progress

  opened = requests.given_fit(options)
  out = Path(options.out) if options.out else sentences.inside(options.workdir, 'catalog')
  with Progress() as progress:
    written = catalog.catalog_into(
      out, opened, overwrite=options.overwrite, command=call.text, on_progress=progress.now
    )
  sentences.print_written(out, {}, *written.files)
  record = written.record
  print(f'{record["kept_edits"]} edits from {record["pairs"]} pairs in {record["seconds"]:.0f} s')
