"""From a checkpoint of each family to the explorer: every command on the files of the commands before it."""

import functools
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from panda_jax import catalog
from panda_jax.app.choices import Choice
from panda_jax.app.engine import Engine
from panda_jax.app.saves import save
from panda_jax.catalog import measurement, screening
from panda_jax.commands import program
from panda_jax.editing import saliency
from panda_jax.editing.editor import layer_rms
from panda_jax.editing.refine import refine
from panda_jax.editing.zoo import Spec, read_zoo
from panda_jax.generators import seeds
from panda_jax.pictures.overlays import relative
from panda_jax.workdir.finished_fit import open_workdir
from tests.commands.calls import run
from tests.converters.writers import module, plain_module, state_dict, write_nvlabs, write_tensorflow, write_zip
from tests.generators import (
  checkpoints,
  plain_biggan_codes,
  plain_fastgan,
  plain_r3gan,
  plain_stylegan3,
  plain_stylegan_xl,
  tensorflow_files,
  unpacked,
)
from tests.generators.test_stylegan3 import SMALL

C = 8  # channels of all networks with 8x8 maps, so that one compilation of the solver serves them


def progan() -> bytes:
  return write_tensorflow([tensorflow_files.progan(checkpoints.progan((C,) * 6))])


def stylegan() -> bytes:
  return write_tensorflow([tensorflow_files.stylegan(checkpoints.stylegan((C,) * 6))])


def stylegan3() -> bytes:
  arguments = SMALL | {'square': False, 'margin_size': 4}
  state = plain_stylegan3.random_checkpoint(np.random.default_rng(3), **arguments)
  return write_nvlabs({'G_ema': module('Generator', state, kwargs=arguments)})


def stylegan_xl() -> bytes:
  made = plain_stylegan_xl.Plain()
  return write_nvlabs({'G_ema': module('Generator', made.arrays, **made.told)})


def biggan() -> bytes:
  made = plain_biggan_codes.random_checkpoint(np.random.default_rng(0), plain_biggan_codes.Network(widths=(16, C, C)))
  return write_zip(state_dict(made))


def fastgan() -> bytes:
  made = plain_fastgan.arrays(widths=(5, C, 3, 4, 3, 2, 2), convolutions=(1,) * 6)
  return write_nvlabs({'G_ema': plain_module('training.networks.Generator', made, img_resolution=64)})


def r3gan() -> bytes:
  return write_nvlabs({'G_ema': plain_r3gan.pickled(plain_r3gan.arrays((6, C, 4), classes=3, embed=2))})


FILES = {  # of each family: a checkpoint (small, or written by the original code), and a layer
  'progan': (progan, 4),
  'stylegan': (stylegan, 4),
  'stylegan2, not square': ('stylegan2_initres', 4),
  'stylegan3, half as wide': (stylegan3, 3),
  'stylegan_xl': (stylegan_xl, 4),
  'biggan': (biggan, 1),
  'r3gan': (r3gan, 4),
  'fastgan': (fastgan, 2),
}
PARTS, APPEARANCES, LABELS = 2, 3, (2, 0)
SEEDS = (5, 2)  # seeds of the second label and of the first
FEW = catalog.Settings(screened=4, measured=4, heldout=4, unedited=4, pairs=1, top=1, random=1)


def source(file, folder) -> Path:
  """The path of a file of `FILES`."""
  if isinstance(file, str):
    return next(path for path in unpacked.checkpoint(file).iterdir() if path.suffix == '.pkl')
  path = folder / 'network'
  path.write_bytes(file())
  return path


def done(*arguments) -> None:
  finished = run(*arguments)
  assert finished.returncode == 0, finished.stderr


def arrays(folder, *names) -> list[np.ndarray]:
  return [np.load(folder / f'{name}.npy') for name in names]


@pytest.mark.parametrize('family', FILES)
def test_every_family(family, tmp_path, monkeypatch):
  monkeypatch.setattr(catalog, 'catalog_into', functools.partial(catalog.catalog_into, settings=FEW))
  monkeypatch.setattr(screening, 'PROBES', 2)
  monkeypatch.setattr(measurement, 'LEVELS', measurement.LEVELS[::3])
  file, layer = FILES[family]
  workdir = tmp_path / 'fit'
  done('convert', source(file, tmp_path), tmp_path / 'generator')
  conditional = json.loads((tmp_path / 'generator' / 'generator.json').read_text())['options']['num_classes'] > 0
  flags = [f'--layer={layer}', '--samples=8', f'--parts={PARTS}', f'--appearances={APPEARANCES}']
  flags += [f'--labels={",".join(map(str, LABELS))}'] * conditional
  done('fit', f'--generator={tmp_path / "generator"}', f'--workdir={workdir}', '--config.restarts=4', *flags)
  opened = open_workdir(workdir)
  generator, factors = opened.generator, opened.factors
  z = seeds.draws(generator, SEEDS)
  latents = generator.map(z, np.array(LABELS[::-1])) if conditional else generator.map(z)
  state = generator.run_to(latents, layer)
  made = SimpleNamespace(
    workdir=workdir,
    opened=opened,
    features=np.asarray(state.features),
    alpha=float(f'{layer_rms(state.features):.2g}'),  # strong enough to be visible
    images=np.asarray(generator.run_from(latents, state, layer)),
    regions=screening.part_regions(factors, generator.image_size, opened.margin),
  )
  assert factors.grid == generator.layers[layer][1:]
  assert factors.parts.shape[1] == PARTS == len(factors.live_parts)
  edited = check_edit(made)
  check_removal(made)
  check_saliency(made)
  check_refinement(made)
  check_catalog(made)
  check_explorer(made, edited)
  check_report(made)
  for picture in {*workdir.rglob('*.png')} - {*workdir.rglob('app/*/edited.png')}:  # this one has the generator's size
    with Image.open(picture) as shown:
      assert min(shown.size) > 200, picture


def of_samples(command, made, *flags):
  """Runs a command on the samples; returns its folder."""
  folder = made.workdir / command
  done(command, f'--workdir={made.workdir}', f'--seeds={",".join(map(str, SEEDS))}', f'--out={folder}', *flags)
  return folder


def assert_local(made, part, difference):
  """Pixels of the part change more than other pixels."""
  change = np.square(difference).mean(axis=(0, -1))
  region = made.regions[part]
  assert change[region].mean() > change[~region].mean()


def check_edit(made) -> np.ndarray:
  """Checks the first sample at the last strength."""
  folder = of_samples('edit', made, '--part=1', '--appearance=2', f'--alpha={-made.alpha},0,{made.alpha}')
  original, edited, difference = arrays(folder, 'original', 'edited', 'difference')
  np.testing.assert_allclose(original, made.images, atol=1e-5 * max(1, np.abs(made.images).max()))  # its labels too
  np.testing.assert_array_equal(edited[:, 1], original)
  np.testing.assert_array_equal(difference, edited - original[:, None])
  for k in (0, 2):
    assert_local(made, 1, difference[:, k])
  return edited[0, 2]


def check_removal(made) -> None:
  folder = of_samples('remove', made, '--part=1', '--samples=8')
  original, difference = arrays(folder, 'original', 'difference')
  np.testing.assert_allclose(original, made.images, atol=1e-5 * max(1, np.abs(made.images).max()))
  assert_local(made, 1, difference)


def check_saliency(made) -> None:
  folder = of_samples('saliency', made, '--appearance=2', '--samples=8')
  coordinates, masks = arrays(folder, 'coordinates', 'masks')
  values = np.einsum('nhwc,c->nhw', made.features, made.opened.factors.appearances[:, 2])
  np.testing.assert_allclose(coordinates, values, atol=2e-5 * np.abs(values).max())
  threshold = json.loads((folder / 'statistics.json').read_text())['appearances']['2']['threshold']
  size = made.opened.generator.image_size
  np.testing.assert_array_equal(masks, saliency.masks(coordinates, threshold, size, made.opened.margin))


def check_refinement(made) -> None:
  parts, errors = arrays(of_samples('refine', made, '--proximal=0.05'), 'parts', 'errors')
  expected = refine(made.features, made.opened.factors, 0.05)
  np.testing.assert_allclose(errors, expected.errors, rtol=1e-3)  # descent magnifies rounding
  assert (errors[:, 1] < errors[:, 0]).all()
  assert parts.min() >= 0


def check_catalog(made) -> None:
  """A command that the catalog shows makes the catalog's edit."""
  done('catalog', f'--workdir={made.workdir}')
  path = made.workdir / 'catalog' / 'catalog.json'
  name, entry = next(iter(read_zoo(path).items()))
  assert entry.scores['change'] > 0
  folder = of_samples('edit', made, f'--zoo={path}', f'--name={name}', '--overwrite')
  original, difference = arrays(folder, 'original', 'difference')
  assert 0 < np.abs(difference).max() < np.inf
  np.testing.assert_allclose(original, made.images, atol=1e-5 * max(1, np.abs(made.images).max()))


def check_explorer(made, edited) -> None:
  """The explorer's picture is that of `edit`; it offers the catalog's edits; a saved edit has a valid command."""
  engine = Engine(made.opened)
  choice = Choice(SEEDS[:1], (Spec((1,), 2, made.alpha),))
  # One sample at a time and several: sums of float32 in another order.
  np.testing.assert_allclose(engine.edited(choice)[0], edited, atol=1e-4 * max(1, np.abs(edited).max()))
  maps, (x, y) = engine.maps(), inside(made, 1)
  assert maps[:, int(y * maps.shape[1]), int(x * maps.shape[2])].argmax() == 1  # a click there chooses part 1
  assert engine.catalog()
  words = shlex.split(save(engine, choice, 'mine').command)
  module, options, _ = program.parse(['run.py', *words[words.index('edit') :]])
  assert (module.__name__, options.name) == ('panda_jax.commands.edit', 'mine')


def inside(made, part) -> tuple[float, float]:
  """(x, y) in [0, 1], within the image, where a part most exceeds the others."""
  maps, margin = relative(made.opened.factors.part_maps()), np.broadcast_to(made.opened.margin, 2)
  rows, columns = (slice(m, n - m) for m, n in zip(margin, made.opened.factors.grid, strict=True))
  lead = (maps[part] - np.delete(maps, part, axis=0).max(axis=0))[rows, columns]
  row, column = np.unravel_index(lead.argmax(), lead.shape)
  return (column + 0.5) / lead.shape[1], (row + 0.5) / lead.shape[0]


def check_report(made) -> None:
  """It shows what was made."""
  done('report', f'--workdir={made.workdir}')
  page = (made.workdir / 'report.html').read_text()
  for folder in ('edit', 'remove', 'saliency', 'refine'):
    assert f'--out={made.workdir / folder}' in page
