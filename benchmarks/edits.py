"""Edits against plain resumes of the same generator, and refinement against the published refinement loop.

    python -m benchmarks.edits --generator=DIR --layer=5 [--samples=500 --parts=12] [--batches=1,32]

Without --generator it is a StyleGAN2 of 256 pixels with random weights and the published widths. Random weights do not
change the times of edits, but say little about refinement, which is then left out.

Edits: from the state at the layer, one compiled call resumes without an edit (the yardstick); another first adds a
different edit to each image. The two calls alternate, so that a busy machine slows both. The extra time is from the
medians; beside it are those from pairs and from processor time, which other processes disturb least. The first call,
which compiles, is timed separately; later calls change part, appearance, strength, seed and factors.
Refinement: one sample at a time, as users call it. Yardstick: the published loop of plain gradient steps, 100 at 1e-5,
in its own order of multiplication and in a thin one, and at the best of other rates. Prints tables, writes
edits-NAME-layer.json.
"""

import dataclasses
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import published
from benchmarks.machine import machine, written
from panda_jax.editing.editor import Editor, make_edit
from panda_jax.editing.refine import refine
from panda_jax.generators import load_generator, registry, seeds
from panda_jax.generators.source import GeneratorSource
from panda_jax.generators.structure import Compiled
from panda_jax.solver.factors import Factors
from panda_jax.solver.fit import fit
from panda_jax.workdir.refinement import likeness

_GENERATOR = flags.DEFINE_string('generator', '', 'Folder of a generator that `python -m converters` wrote.')
_LAYER = flags.DEFINE_integer('layer', 5, 'Where features are edited.')
_SAMPLES = flags.DEFINE_integer('samples', 500, 'Of the fit.', lower_bound=2)
_PARTS = flags.DEFINE_integer('parts', 12, 'R_S.', lower_bound=1)
_BATCHES = flags.DEFINE_list('batches', ['1', '32'], 'Images at a time.')
_SECONDS = flags.DEFINE_float('seconds', 10.0, 'For about so long each pair of calls is repeated, at least 5 times.')
_REFINED = flags.DEFINE_integer('refined', 16, 'Samples that are refined, each on its own.', lower_bound=1)
_OUT = flags.DEFINE_string('out', 'benchmarks/results', 'Folder of the JSON file.')

PUBLISHED_RATE, PUBLISHED_ITERATIONS = 1e-5, 100
RATES = tuple(10.0**k for k in range(-7, 0))
TOLERANCES = (1e-2, 1e-3, 1e-4)
PULL = 0.03


def log(text: str) -> None:
  print(text, flush=True)


def random_stylegan2():
  """A StyleGAN2 of 256 pixels, widths as published."""
  from panda_jax.generators.stylegan2 import StyleGAN2Options

  widths = tuple(min(16384 // 2**k, 512) for k in range(2, 9) for _ in range(2))
  return registry.create('stylegan2', StyleGAN2Options(256, widths, 512, 512, (512,) * 8, clamp=256.0))


def timed(call, *arguments) -> float:
  began = time.perf_counter()
  jax.block_until_ready(call(*arguments))
  return time.perf_counter() - began


def random_factors(generator, layer: int, parts: int, seed: int = 0) -> Factors:
  """Factors of the layer's sizes: orthonormal appearances, smooth parts. Their values do not change the times."""
  C, H, W = generator.layers[layer]
  rng = np.random.default_rng(seed)
  A = np.linalg.qr(rng.standard_normal((C, C)))[0]
  y, x = np.meshgrid(np.arange(H), np.arange(W), indexing='ij')
  centres = rng.uniform(0, 1, (parts, 2)) * np.array([[H, W]])
  distance = (y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2
  return Factors(A, np.maximum(1 - distance / (H * W / 16), 0).reshape(H * W, parts), (H, W))


def latents_of(generator, numbers):
  labels = np.zeros(len(numbers), np.int64) if generator.num_classes else None
  return generator.map(seeds.draws(generator, numbers), labels)


def edits_of(factors: Factors, count: int, turn: int) -> list:
  """One edit for each image; each `turn` has other parts, appearances and strengths."""
  C, parts = factors.appearances.shape[1], factors.parts.shape[1]
  live = np.flatnonzero(factors.parts.any(axis=0))
  return [
    make_edit(factors, int(live[(i + turn) % len(live)]), (5 * i + turn) % C, 3.0 + i + turn / parts)
    for i in range(count)
  ]


def measured_edits(generator, factors: Factors, layer: int, batch: int, seconds: float) -> dict:
  """Times of plain and edited resumes of `batch` images."""
  plain, editor = Compiled(generator), Editor(generator, layer)
  latents = latents_of(plain, range(batch))
  state = editor.state(latents)
  jax.block_until_ready(state)

  def resume(latents, state):
    return plain.run_from(latents, state, layer)

  first = {
    'plain': timed(resume, latents, state),
    'edited': timed(editor.resumed, latents, state, edits_of(factors, batch, 0)),
  }
  compiled = editor.compilations()
  others = dataclasses.replace(factors, appearances=factors.appearances[:, ::-1])
  variants = []
  for turn in range(4):
    latents = latents_of(plain, range(turn * batch, (turn + 1) * batch))
    variants.append((latents, editor.state(latents), edits_of(others if turn % 2 else factors, batch, turn)))
  jax.block_until_ready([state for _, state, _ in variants])
  times, cpu = {'plain': [], 'edited': []}, {'plain': [], 'edited': []}
  began = time.perf_counter()
  while len(times['plain']) < 5 or time.perf_counter() - began < seconds:
    latents, state, edits = variants[len(times['plain']) % len(variants)]
    for name, call in (('plain', resume), ('edited', editor.resumed)):
      spent = time.process_time()
      times[name].append(timed(call, latents, state, *([edits] if name == 'edited' else [])))
      cpu[name].append(time.process_time() - spent)
  middle = {name: statistics.median(values) for name, values in times.items()}
  pairs = [e / p for e, p in zip(times['edited'], times['plain'], strict=True)]
  return {
    'batch': batch,
    'first_seconds': first,
    'seconds': middle,
    'least_seconds': {name: min(values) for name, values in times.items()},
    'per_second': {name: batch / value for name, value in middle.items()},
    'extra': middle['edited'] / middle['plain'] - 1,
    'extra_of_pairs': statistics.median(pairs) - 1,
    'extra_processor_time': statistics.median(cpu['edited']) / max(statistics.median(cpu['plain']), 1e-9) - 1,
    'calls': len(pairs),
    'compiled_again': editor.compilations() - compiled,
  }


def whole_edits(generator, factors: Factors, layer: int, batch: int) -> dict:
  """Times from latents to original and edited pictures on the host, of the first and later calls."""
  editor = Editor(generator, layer)
  latents = latents_of(Compiled(generator), range(batch))
  edit = edits_of(factors, 1, 0)[0]
  seconds = [timed(editor.images, latents, edit) for _ in range(4)]
  return {'batch': batch, 'first_seconds': seconds[0], 'seconds': min(seconds[1:])}


def relative_error(factors: Factors, Z: np.ndarray, parts: np.ndarray) -> float:
  """Mean relative error over samples; Z (n, S, C), parts (n, S, R_S)."""
  found = [dataclasses.replace(factors, parts=p).relative_error(z[None]) for z, p in zip(Z, parts, strict=True)]
  return float(np.mean(found))


def measured_refinement(factors: Factors, Z: np.ndarray) -> list[dict]:
  """Rows of the table of refinement; Z (n, S, C), minus the mean if the factors were fitted without it."""
  rows = []

  def keep(name: str, run, repeats: int = 1) -> dict:
    first = timed(run, Z[0])
    seconds = []
    for _ in range(repeats):
      found = []
      for z in Z:
        began = time.perf_counter()
        found.append(np.asarray(run(z)))
        seconds.append(time.perf_counter() - began)
    parts = np.stack(found)
    finite = bool(np.isfinite(parts).all())
    rows.append(
      {
        'method': name,
        'first_seconds': first,
        'seconds': statistics.median(seconds),
        'error': relative_error(factors, Z, parts) if finite else None,
        'cosine': float(likeness(factors.parts, parts).mean()) if finite else None,
      }
    )
    return rows[-1]

  for tolerance in TOLERANCES:
    keep(f'ours, tolerance {tolerance:g}', lambda z, t=tolerance: refine(z[None], factors, tolerance=t).parts[0], 3)
  keep(f'ours, proximal {PULL:g}', lambda z: refine(z[None], factors, PULL).parts[0], 3)

  start = published.Factors(jnp.asarray(factors.appearances), jnp.asarray(factors.parts))

  def loop(variant, rate, iterations=PUBLISHED_ITERATIONS):
    return lambda z: published.refine(
      jnp.asarray(z.T[None]), start, jnp.float32(rate), jnp.int32(iterations), variant=variant
    )

  for variant in published.VARIANTS:
    keep(f'published, {variant}, rate {PUBLISHED_RATE:g}', loop(variant, PUBLISHED_RATE))
  searched = {rate: np.stack([loop('thin', rate)(z) for z in Z]) for rate in RATES}
  errors = {rate: relative_error(factors, Z, P) for rate, P in searched.items() if np.isfinite(P).all()}
  best = min(errors, key=errors.get)
  for variant in published.VARIANTS:
    keep(f'published, {variant}, best rate {best:g}', loop(variant, best))
  keep(
    f'published, thin, best rate {best:g}, {10 * PUBLISHED_ITERATIONS} steps',
    loop('thin', best, 10 * PUBLISHED_ITERATIONS),
  )
  return rows


def fitted(generator, layer: int, samples: int, parts: int) -> Factors:
  labels = None if not generator.num_classes else [0]
  return fit(GeneratorSource(generator, layer, samples, labels=labels), parts).factors


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  layer = _LAYER.value
  record = machine() | {'layer': layer}
  if _GENERATOR.value:
    generator, name = load_generator(_GENERATOR.value), Path(_GENERATOR.value).name
    factors = fitted(generator, layer, _SAMPLES.value, _PARTS.value)
    record['relative_error'] = factors.provenance['relative_error']
  else:
    generator, name = random_stylegan2(), 'stylegan2-256'
    factors = random_factors(generator, layer, _PARTS.value)
  C, H, W = generator.layers[layer]
  record |= {'name': name, 'sizes': [C, H, W], 'resolution': generator.resolution}
  log(f'{name}, layer {layer}: {C} channels on {H}x{W}, images of {generator.resolution} pixels')

  heads = f'{"batch":>5} {"plain/s":>9} {"edits/s":>9} {"extra":>7} {"of pairs":>8} {"of CPU":>7}'
  log(f'\n{heads} {"first s":>8} {"plain first":>11}')
  record['edits'] = []
  for batch in map(int, _BATCHES.value):
    row = measured_edits(generator, factors, layer, batch, _SECONDS.value)
    row['whole'] = whole_edits(generator, factors, layer, batch)
    record['edits'].append(row)
    shares = f'{row["extra"]:7.1%} {row["extra_of_pairs"]:8.1%} {row["extra_processor_time"]:7.1%}'
    firsts = f'{row["first_seconds"]["edited"]:8.2f} {row["first_seconds"]["plain"]:11.2f}'
    rates = f'{row["per_second"]["plain"]:9.2f} {row["per_second"]["edited"]:9.2f}'
    whole = f'from latents to both pictures {row["whole"]["seconds"]:.3f} s'
    log(f'{batch:5} {rates} {shares} {firsts}   (compiled again: {row["compiled_again"]}; {whole})')
  if _GENERATOR.value:
    numbers = range(10**6, 10**6 + _REFINED.value)  # samples that are not in the fit
    Z = np.asarray(Compiled(generator).run_to(latents_of(generator, numbers), layer).features, np.float32)
    Z = Z.reshape(len(Z), H * W, C)
    record['global_error'] = relative_error(factors, Z, np.broadcast_to(factors.parts, (len(Z), *factors.parts.shape)))
    record['refinement'] = measured_refinement(factors, Z)
    log(f'\nrefinement, error with the global parts {record["global_error"]:.4f}')
    log(f'{"method":55} {"ms/sample":>9} {"first s":>8} {"error":>8} {"cosine":>7}')
    for row in record['refinement']:
      shown = ['-' if row[key] is None else f'{row[key]:.4f}' for key in ('error', 'cosine')]
      log(f'{row["method"]:55} {1e3 * row["seconds"]:9.2f} {row["first_seconds"]:8.2f} {shown[0]:>8} {shown[1]:>7}')
  path = written(record, Path(_OUT.value) / f'edits-{name}-{layer}.json')
  log(f'wrote {path}')


if __name__ == '__main__':
  app.run(main)
