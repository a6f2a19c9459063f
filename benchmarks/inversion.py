"""Inversion of held-out photographs in each space, and how edits work on them.

    python -m benchmarks.inversion --data=cats64.zip --workdir=DIR [--count=200] [--yardstick=8]

`--data` is the training data of cats64; the held-out photographs are the trainer's. `--workdir` is a fit of cats64 with
its catalog; features are of its layer. For each space: PSNR, SSIM, distance in the space of realism.py, seconds of
processor time for a photograph in the second call. For features also as a function of the regulariser.

Editability: the best edits of the catalog, each at its largest useful alpha, on inverted photographs and on samples:
change, locality, consistency and realism of catalog/measurement.py, medians over the edits.

Yardstick: Adam on w from the mean of w, mean square of the pixels, 1000 steps, the best of five rates, on the same
photographs; and the time at which each space reaches its error. Prints a table, writes inversion-cats64.json after
every step, and inversion-cats64.png.
"""

import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from benchmarks.machine import machine
from examples.train_generator import data
from panda_jax.catalog.measurement import Bench, Judge, Scores, space_of
from panda_jax.editing.composition import weight
from panda_jax.editing.editor import Editor, make_edit
from panda_jax.generators.base import WPlus
from panda_jax.generators.structure import plain, split
from panda_jax.inversion.encoder import encoder_of, load_encoder
from panda_jax.inversion.invert import REGULARISER, Inverter
from panda_jax.pictures.figures import to_bytes
from panda_jax.pictures.sheets import Row, draw_rows, resized
from panda_jax.regions import realism
from panda_jax.workdir.finished_fit import open_workdir

_DATA = flags.DEFINE_string('data', None, 'Zip file or folder of the pictures that cats64 was trained on.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'A fit of cats64.')
_COUNT = flags.DEFINE_integer('count', 200, 'Held-out photographs.', lower_bound=1)
_BOUND = flags.DEFINE_integer('bound', 32, 'Of them, for the regularisers and for edits.', lower_bound=2)
_YARDSTICK = flags.DEFINE_integer('yardstick', 8, 'Of them, for the yardstick; 0 leaves it out.', lower_bound=0)
_EDITS = flags.DEFINE_integer('edits', 40, 'Edits that are tried.', lower_bound=1)
_EVALUATIONS = flags.DEFINE_integer('evaluations', None, 'As of the command.')
_OUT = flags.DEFINE_string('out', 'benchmarks/results', 'Folder of the results.')

REGULARISERS = (1e-2, 1e-3, 1e-4)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
STEPS = 1000
BUDGETS = (1, 3, 5, 10, 20, 40, 80, 160)
SHOWN, SIDE = 8, 96  # photographs in the picture, and pixels of a tile


def log(text: str) -> None:
  print(text, flush=True)


def ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """(N,) mean structural similarity of pictures (N, h, w, channels) from -1 to 1 (Wang et al. 2004)."""
  from scipy.ndimage import gaussian_filter

  def smooth(a):
    return gaussian_filter(a, (0, 1.5, 1.5, 0), truncate=3.5)

  x, y = x.astype(np.float64), y.astype(np.float64)
  mx, my = smooth(x), smooth(y)
  vx, vy, cov = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
  c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
  return np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)), axis=(1, 2, 3))


def figures(found, space, seconds: float) -> dict:
  """The reported numbers of an inversion."""
  images = np.clip(found.images, -1, 1)
  rows, own = space(images), space(found.photographs)
  return {
    'psnr_db': float(np.median(found.psnr)),
    'psnr_quartiles_db': np.percentile(found.psnr, [25, 75]).tolist(),
    'ssim': float(np.median(ssim(images, found.photographs))),
    'realism_distance': float(np.median(np.linalg.norm(rows - own, axis=1))),
    'processor_seconds_each': seconds / len(images),
    'reasons': {reason: found.reasons.count(reason) for reason in sorted({*found.reasons})},
  }


def timed(inverter, pixels):
  """An inversion, and its seconds of processor time after compilation."""
  evaluations, inverter.evaluations = inverter.evaluations, 2
  inverter(pixels[: inverter.batch])
  inverter.evaluations = evaluations
  began = time.process_time()
  found = inverter(pixels)
  return found, time.process_time() - began


def best_edits(opened, count: int) -> list:
  """The edits of the fit's catalog with the best scores, each at its largest useful alpha."""
  stored = json.loads((opened.folder / 'catalog' / 'catalog.json').read_text())['edits']
  ranked = sorted(stored.values(), key=lambda edit: -edit['scores']['score'])[:count]
  terms = [term for edit in ranked for term in edit['terms'][:1]]
  return [make_edit(opened.factors, term['part'], term['appearance'], term['alpha']) for term in terms]


def editability(opened, latents, noise: str, edits: list) -> dict[str, np.ndarray]:
  """Scores (E,) of a fit's edits, by name."""
  editor = Editor(opened.needed_generator(), opened.layer, noise)
  bench = Bench(editor, latents, 16).start(make_edit(opened.factors, 0, 0, 0.0))
  judge = Judge(bench, space_of(bench.original))
  scores = []
  for edit in edits:
    region = weight(edit.mask, opened.factors.grid, opened.image_size(), opened.margin) > 0.5
    scores += judge.scores(bench.edited([edit]), region)
  return {name: np.array([getattr(s, name) for s in scores]) for name in Scores._fields}


def kept(own: dict, base: dict) -> dict[str, float]:
  """Medians over edits, as shares of the medians on samples."""
  return {name: float(np.median(own[name]) / np.median(base[name])) for name in own}


def yardstick(generator, pixels: np.ndarray) -> dict:
  """Adam on w from its mean, at the rate with the least final error."""
  structure, arrays = split(generator)
  photographs = jnp.asarray(pixels.astype(np.float32) / 127.5 - 1)
  N, rows = len(pixels), plain(generator)
  z = np.random.RandomState(0).randn(4096, rows.z_dim).astype(np.float32)
  mean = np.asarray(rows.mapping(z)).mean(axis=0)
  L = rows.wplus(mean[None]).wplus.shape[1]
  found = {}
  for rate in RATES:
    optimizer = optax.adam(rate)

    @jax.jit
    def step(arrays, w, memory, optimizer=optimizer):
      def loss(w):
        latents = WPlus(jnp.broadcast_to(w[:, None], (N, L, w.shape[1])))
        made = structure.generator(arrays)(latents, noise='none')
        return jnp.sum(jnp.mean(jnp.square(made - photographs), axis=(1, 2, 3)))

      value, gradient = jax.value_and_grad(loss)(w)
      change, memory = optimizer.update(gradient, memory)
      return optax.apply_updates(w, change), memory, value

    w = jnp.broadcast_to(jnp.asarray(mean), (N, len(mean)))
    memory = optimizer.init(w)
    jax.block_until_ready(step(arrays, w, memory))
    began = time.process_time()
    for _ in range(STEPS):
      w, memory, value = step(arrays, w, memory)
    found[rate] = {'error': float(value) / N, 'seconds': time.process_time() - began}
    log(f'  Adam on w, rate {rate}: mean square error {found[rate]["error"]:.4f} in {found[rate]["seconds"]:.1f} s')
  best = min(found, key=lambda rate: found[rate]['error'])
  return {'rate': best, **found[best], 'all': {str(rate): x for rate, x in found.items()}}


def sooner(generator, encoder, pixels: np.ndarray, space: str, target: float) -> dict:
  """Seconds and mean square error in a space at increasing numbers of evaluations, and the first at the target."""
  curve = []
  for budget in BUDGETS:
    inverter = Inverter(generator, space, encoder=encoder, evaluations=budget, tolerance=0)
    found, seconds = timed(inverter, pixels)
    error = float(np.mean(np.square(np.clip(found.images, -1, 1) - found.photographs)))
    curve.append({'evaluations': budget, 'seconds': seconds, 'error': error})
  first = next((point for point in curve if point['error'] <= target), None)
  return {'curve': curve, 'seconds_at_target': None if first is None else first['seconds']}


def draw_shown(path: Path, images: dict[str, np.ndarray]) -> None:
  """Draws a row of pictures (n, h, w, 3) for each name."""
  rows = [Row(name, list(resized(to_bytes(some), (SIDE, SIDE)))) for name, some in images.items()]
  draw_rows(path, rows, (), note=f'The first {SHOWN} of the photographs; medians of all.')


def main(_) -> None:
  opened = open_workdir(_WORKDIR.value)
  generator = plain(opened.needed_generator())
  pictures = data.read_images(_DATA.value)
  train, held = data.split(data.photographs(pictures.pixels))
  pixels = pictures.pixels[held[np.linspace(0, len(held) - 1, _COUNT.value).round().astype(int)]]
  space = realism.embedding(pictures.pixels[np.random.default_rng(0).permutation(train)[:4000]])
  path = encoder_of('cats64')
  encoder = None if path is None else load_encoder(path)
  more = {} if _EVALUATIONS.value is None else {'evaluations': _EVALUATIONS.value}
  result = {'machine': machine(), 'photographs': len(pixels), 'layer': opened.layer, 'spaces': {}, 'regularisers': {}}
  shown = {}
  out = Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)

  def write():
    (out / 'inversion-cats64.json').write_text(json.dumps(result, indent=2) + '\n')

  def told(name, found, seconds):
    result['spaces'][name] = figures(found, space, seconds)
    shown[f'{name}\n{result["spaces"][name]["psnr_db"]:.1f} dB'] = found.images[:SHOWN]
    log(f'{name:10} ' + json.dumps(result['spaces'][name]))
    write()

  tries = {'encoder': ('wplus', {'evaluations': 1}), 'w': ('w', more), 'wplus': ('wplus', more)}
  for name, (where, options) in tries.items():
    if name != 'encoder' or encoder is not None:
      told(name, *timed(Inverter(generator, where, encoder=encoder, **options), pixels))
  inverter = Inverter(generator, layer=opened.layer, encoder=encoder, **more)
  found, seconds = timed(inverter, pixels)
  told('features', found, seconds)

  few = np.linspace(0, len(pixels) - 1, min(_BOUND.value, len(pixels))).round().astype(int)
  edits = best_edits(opened, _EDITS.value)
  base = editability(opened, opened.latents(range(opened.seed, opened.seed + len(few))), 'none', edits)
  result['edits'] = {'on samples': {name: float(np.median(x)) for name, x in base.items()}}
  for name, one in (
    ('wplus', Inverter(generator, 'wplus', encoder=encoder, **more)),
    *(
      (str(r), Inverter(generator, layer=opened.layer, encoder=encoder, regulariser=r, **more))
      for r in sorted({*REGULARISERS, REGULARISER}, reverse=True)
    ),
  ):
    some = one(pixels[few])
    shares = kept(editability(opened, some.latents(generator), 'none', edits), base)
    row = {'psnr_db': float(np.median(some.psnr)), **{f'{key}_of_samples': x for key, x in shares.items()}}
    result['regularisers'][name] = row
    log(f'regulariser {name:8} ' + json.dumps(row))
    write()

  if _YARDSTICK.value:
    some = pixels[: _YARDSTICK.value]
    result['yardstick'] = yardstick(generator, some)
    for where in ('w', 'wplus'):
      result['yardstick'][where] = sooner(generator, encoder, some, where, result['yardstick']['error'])
      log(f'{where} ' + json.dumps(result['yardstick'][where]))
    write()
  draw_shown(out / 'inversion-cats64.png', {'photographs': found.photographs[:SHOWN], **shown})


if __name__ == '__main__':
  flags.mark_flags_as_required(['data', 'workdir'])
  app.run(main)
