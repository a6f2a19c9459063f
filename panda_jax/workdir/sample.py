"""The files of `panda-jax sample`: images of a generator, their latents and feature maps."""

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from panda_jax.errors import InputError
from panda_jax.files.records import write_json
from panda_jax.files.rows import Rows, writing
from panda_jax.generators.base import checked_features, checked_layer
from panda_jax.generators.labels import each
from panda_jax.generators.latent_files import header
from panda_jax.generators.protocol import Held, driving
from panda_jax.generators.source import weights_digest
from panda_jax.generators.spaces import SPACES, latents_of, shapes
from panda_jax.generators.structure import Compiled
from panda_jax.inversion.inversion import Inversion
from panda_jax.pictures import figures
from panda_jax.workdir.folders import claimed
from panda_jax.workdir.samples import check_finite

BATCH_PIXELS = 1 << 19  # of images at a time: eight of 256 x 256
RECORD = 'sample.json'
TOLD = 'command', 'typed'  # keys of the record beside the settings, which are at its top level
ARRAYS = 'w.npy', 'wplus.npy', 'features.npy'  # not always written


def sample_into(
  out: str | os.PathLike,
  generator,
  array: np.ndarray,
  labels: np.ndarray | None = None,
  *,
  space: str = 'z',
  truncation: float = 1.0,
  truncation_layers: int | None = None,
  noise: str = 'const',
  noise_seed: int = 0,
  transform: np.ndarray | None = None,
  layer: int | None = None,
  features: np.ndarray | None = None,
  inversion: Inversion | None = None,
  drop_rgb: bool = False,
  overwrite: bool = False,
  command: str = '',
  typed: Mapping[str, str] | None = None,
  batch: int | None = None,
  on_samples: Callable[[str, int], None] = lambda name, n: None,
  on_note: Callable[[str], None] = lambda text: None,
) -> dict[str, tuple[int, ...]]:
  """Runs a generator and writes images, latents and feature maps into a folder.

  Args:
    out: folder. One with samples of other settings raises an error without `overwrite`.
    generator: see the protocol.
    array: samples in a space, see `spaces.latents_of`: for z the untruncated draws (N, z_dim).
    labels: (N,) class indices or (N, classes) rows; a single one is for all samples.
    space: 'z', 'w' or 'wplus'.
    truncation, truncation_layers: as of `latents_of`.
    noise: 'const', 'none' or 'random', from `noise_seed`.
    transform: (3, 3), StyleGAN3 only.
    layer: where to split: features.npy is written, and images are those of the resumed run.
    features: (N, H, W, C), to resume from at `layer` instead of the generator's own.
    inversion: of photographs, in place of `array`; if it has features, the run resumes from them.
    drop_rgb: forget the RGB accumulated before `layer`, as published PandA does.
    command: for the record, so that it can be repeated.
    typed: the flags for the generator, the samples and their classes, for the record.
    batch: samples at a time.
    on_samples: called with the number of samples done.
    on_note: called with a sentence on values that images.png does not show.

  Returns:
    {file name: shape} of the arrays written: images.npy always, wplus.npy with a mapping network, and w.npy unless w+
    was given; features.npy with `layer`. images.png shows them.

  Raises:
    InputError: an argument does not fit the generator, images are not finite, or files cannot be written.
  """
  out, N = Path(out), len(array)
  labels = each(labels, N)
  if features is not None and layer is None:
    raise InputError('features', 'given', 'given without their layer', 'give --layer')
  if drop_rgb and layer is None:
    raise InputError('drop_rgb', True, 'given without a layer to resume from', 'give --layer')
  if transform is not None:
    if not hasattr(generator, 'with_transform'):
      raise InputError('transform', 'given', 'only StyleGAN3 has a transform', 'leave it out')
    generator = generator.with_transform(transform)
  if layer is not None:
    layer = checked_layer(layer, generator.layers)
    if features is not None:
      features = np.asarray(checked_features(features, N, generator.layers[layer], layer, np.float32))
  if inversion is not None and inversion.layer is not None and layer not in (None, inversion.layer):
    problem = f'the photographs were inverted at layer {inversion.layer}'
    raise InputError('layer', layer, problem, 'leave it out, or invert again')
  if inversion is not None and (truncation, truncation_layers) != (1, None):
    name, value = ('truncation', truncation) if truncation != 1 else ('truncation_layers', truncation_layers)
    raise InputError(name, value, 'photographs are inverted without truncation', 'leave it out')
  inputs = array, labels, transform, features, *(() if inversion is None else (inversion.features, inversion.rgb))
  settings = {
    'weights': weights_digest(generator).hexdigest(),
    'inputs': [_sha256(x) for x in inputs],
    'space': space,
    'truncation': truncation,
    'truncation_layers': truncation_layers,
    'noise': noise if noise != 'random' else f'random {noise_seed}',
    'layer': layer,
    'drop_rgb': drop_rgb,
  }
  run = Compiled(generator) if isinstance(generator, nnx.Module) else generator
  options = {'truncation': truncation, 'truncation_layers': truncation_layers}
  mapped = 'w' in shapes(generator)
  drawn = jax.random.key(noise_seed) if noise == 'random' else noise
  batch = min(N, batch or max(1, min(16, BATCH_PIXELS // math.prod(generator.image_size))))
  written: dict[str, Rows] = {}
  written_shapes: dict[str, tuple[int, ...]] = {}
  shown: list[np.ndarray] = []
  claim = claimed(out, RECORD, settings, 'other samples are', overwrite, marker='images.npy', keys=(), beside=TOLD)
  with claim, writing(out) as create:

    def add(name: str, rows, count: int):
      rows = np.asarray(rows, np.float32)[:count]
      if name not in written:
        written_shapes[name] = (N, *rows.shape[1:])
        written[name] = create(name, written_shapes[name], space_header(name, written_shapes[name]))
      written[name].add(rows)
      if name == 'images.npy' and sum(map(len, shown)) < figures.MOST_IMAGES:
        shown.append(rows)

    for first in range(0, N, batch):
      count = min(batch, N - first)
      filled = np.minimum(first + np.arange(batch), N - 1)  # one program serves the last batch too
      given, labels_batch, there = array[filled], None if labels is None else labels[filled], space
      w = run.mapping(given, labels_batch) if mapped and space == 'z' else given if space == 'w' else None
      if mapped and space == 'z' and not getattr(generator, 'class_means', False):
        given, labels_batch, there = w, None, 'w'  # through w, so that w.npy gives the same images bit for bit
      if inversion is None:
        latents = latents_of(run, given, there, labels_batch, **options)
      else:
        latents = inversion.chosen(filled).latents(run)
      held, latents = (latents, driving(latents)) if isinstance(latents, Held) else (None, latents)
      if w is not None:
        add('w.npy', w, count)
      if mapped:
        add('wplus.npy', latents.wplus, count)
      if layer is None and held is None:
        images = run(latents, noise=drawn)
      elif layer is None:
        images = run.run_from(latents, held.state, held.layer, noise=drawn)
      else:
        state = held.state if held is not None else run.run_to(latents, layer, noise=drawn)
        if features is not None:
          state = state.replace(features=features[filled])
        add('features.npy', state.features, count)
        images = run.run_from(latents, state, layer, noise=drawn, drop_rgb=drop_rgb)
      check_finite(images[:count], [f'sample {i}' for i in range(first, first + count)])
      add('images.npy', images, count)
      on_samples('sample', first + count)
    for name in {*ARRAYS} - {*written}:  # of other samples
      (out / name).unlink(missing_ok=True)
    figures.draw_images(out / 'images.png', np.concatenate(shown))
    if max(float(np.abs(rows).max()) for rows in shown) > 1:
      on_note('values beyond black and white are clipped in images.png, and kept in images.npy')
    write_json(out / RECORD, settings | dict(zip(TOLD, (command, dict(typed or {})), strict=True)))
  return written_shapes


def space_header(name: str, shape: tuple[int, ...]) -> bytes | None:
  """The header of w.npy and wplus.npy, which names the space; None for other files."""
  space = Path(name).stem
  return header(shape, space) if space in SPACES else None


def _sha256(array: np.ndarray | None) -> str | None:
  if array is None:
    return None
  array = np.ascontiguousarray(array)
  return hashlib.sha256(f'{array.shape} {array.dtype}'.encode() + array.tobytes()).hexdigest()
