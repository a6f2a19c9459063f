"""Photographs as latents, or as features at a layer, of a generator.

An inversion starts at the encoder's output, or else at the nearest of some samples. `minimiser` continues from there in
the requested space; features begin at those of the latents that were found first. Letters: N photographs, (h, w)
pixels, L rows of w+, and as in coordinates.py.
"""

import dataclasses
import functools
import math
import numbers
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators.base import checked_layer
from panda_jax.generators.protocol import Generator, image_shape
from panda_jax.generators.seeds import draws
from panda_jax.generators.source import weights_digest
from panda_jax.generators.structure import Compiled, plain, split
from panda_jax.inversion import minimiser, objective
from panda_jax.inversion.coordinates import class_rows, coordinates, is_mapped
from panda_jax.inversion.encoder import Encoder
from panda_jax.inversion.feature_range import feature_range
from panda_jax.inversion.inversion import SPACES, Curve, Inversion, joined
from panda_jax.inversion.losses import distances
from panda_jax.inversion.preconditioner import PROBES, estimated

EVALUATIONS = 500  # of all stages together
BEFORE = 1 / 3  # share of the evaluations for each stage that comes before another
TOLERANCE = 0.002  # a photograph is done if ten steps lower its error by less than this fraction
REGULARISER = 1e-3  # the most exact copies on which edits act as on samples: benchmarks/results/inversion-cats64.json
BINDING = 100  # factor of the latents' prior if features are free; see benchmarks/inversion.py
STARTS = 128  # samples of which the nearest is the start if there is no encoder
BATCH_PIXELS, MOST_AT_ONCE = 1 << 16, 16  # pixels, and number, of pictures that are inverted side by side
LOOK = 5  # evaluations between two checks of what is done
HARMLESS = 1e-6
LARGEST = 1e30  # of a setting: products with it are still float32 numbers


def as_photographs(images: np.ndarray, picture: tuple[int, int, int]) -> np.ndarray:
  """Photographs (N, h, w, channels) float32 from -1 to 1, from uint8 or numbers from -1 to 1.

  Raises:
    InputError: another shape than that of the generator's pictures, or numbers outside of the range.
  """
  try:
    array = np.asarray(images)
  except ValueError:  # lists of different lengths
    array = np.zeros(())
  h, w, channels = picture
  wanted = f'(N, {h}, {w}, {channels}), uint8 or from -1 to 1'
  if array.ndim != 4 or array.shape[1:] != picture or not len(array):
    text = 'x'.join(map(str, array.shape)) or 'scalar'
    raise InputError('images', f'shape {text}', 'they are not photographs of this size', f'give {wanted}')
  if array.dtype == np.uint8:
    return array.astype(np.float32) / 127.5 - 1
  if array.dtype.kind not in 'fiu' or not np.isfinite(array).all() or np.abs(array).max() > 1 + HARMLESS:
    raise InputError('images', f'numbers of {array.dtype}', 'they are not all from -1 to 1', f'give {wanted}')
  return array.astype(np.float32)


class Inverter:
  """Inverts photographs; keeps its knowledge of a generator, and its compiled programs, from call to call.

  Args:
    generator: of one of our families, or any object with the methods of `Generator`; plain or `Compiled`. JAX must be
      able to differentiate it.
    space: of the search: 'z' or 'w', 'wplus', 'features'. If left out, features if a layer is given, else w+, or z if
      there is no mapping network.
    layer: the layer where features are free.
    encoder: gives the start; if left out, the start is the nearest of some samples.
    noise: noise inputs of the layers, 'none' or 'const'; edits of the inversion keep it.
    regulariser: weight of the prior, which keeps latents and features like those of samples. A larger one gives a worse
      copy of the photograph, and better edits.
    evaluations: the most pictures with their gradients; a third of them are for the latents before features. 1: the
      start itself.
    tolerance: a photograph is done when its error falls by less than this fraction within ten steps.
    loss: function of pictures and photographs (N, h, w, channels) that gives errors (N,); JAX must be able to
      differentiate it.
    batch: photographs that are inverted side by side; chosen by size if left out. It changes speed only.

  Raises:
    InputError: the space, the layer or the encoder does not fit the generator; a number that cannot be used.

  Example:
    >>> inverter = panda_jax.Inverter(quarters, evaluations=50)
    >>> first, second = inverter(images[:2]), inverter(images[2:4])  # compiled once
    >>> second.photographs.shape
    (2, 8, 8, 3)
  """

  def __init__(
    self,
    generator: Any,
    space: str | None = None,
    *,
    layer: int | None = None,
    encoder: Encoder | None = None,
    noise: str = 'none',
    regulariser: float = REGULARISER,
    evaluations: int = EVALUATIONS,
    tolerance: float = TOLERANCE,
    loss: objective.Loss = distances,
    batch: int | None = None,
  ):
    self.generator = module = plain(generator)
    if not isinstance(module, Generator):
      raise InputError('generator', type(module).__name__, 'it is not a generator', 'see panda_jax.generators.protocol')
    self.picture = image_shape(module)
    self.mapped = is_mapped(module)
    self.space = _checked_space(space, layer, self.mapped)
    self.layer = checked_layer(layer, module.layers) if self.space == 'features' else None
    if noise not in ('const', 'none'):
      raise InputError('noise', noise, 'there is no such noise', "give 'const' or 'none'")
    self.noise, self.loss = noise, loss
    self.regulariser = _checked_number('regulariser', regulariser, 0)
    self.evaluations = _checked_count('evaluations', evaluations)
    self.tolerance = _checked_number('tolerance', tolerance, 0)
    most = max(1, min(BATCH_PIXELS // math.prod(self.picture[:2]), MOST_AT_ONCE))
    self.batch = most if batch is None else _checked_count('batch', batch)
    _check_loss(loss, self.picture)
    self.where = coordinates(module)
    self.encoder = encoder
    if encoder is not None:
      if not isinstance(encoder, Encoder):
        raise InputError('encoder', type(encoder).__name__, 'it is not an encoder', 'give what load_encoder returns')
      wanted = (self.where.rows, self.where.mean.shape[0]) if self.mapped else (module.z_dim,)
      if (encoder.options.output, encoder.options.channels) != (wanted, self.picture[-1]):
        raise InputError('encoder', 'given', 'it is of another generator', 'train one for this generator')
    self.weights = weights_digest(module).hexdigest()
    self._structure, self._arrays = split(module)
    self._range = None if self.layer is None else feature_range(module, self.layer, noise)
    self._sampled: tuple[np.ndarray, np.ndarray | None] | None = None
    self._small: np.ndarray | None = None
    self._preconditioners: dict[objective.Kind, objective.Preconditioner] = {}
    self._done = 0

  def __call__(
    self,
    images: np.ndarray,
    labels=None,
    on_images: Callable[[str, int], None] = lambda name, n: None,
    on_evaluations: Callable[[str, int], None] = lambda stage, n: None,
  ) -> Inversion:
    """Inverts photographs (N, h, w, channels) of the generator's size: uint8, or numbers from -1 to 1.

    Args:
      images: see above.
      labels: class indices of a conditional generator, one for all or one each. If left out, the class of the nearest
        sample.
      on_images: called with how many photographs are done.
      on_evaluations: called with the stage, 'latents' or 'features', and how many of its evaluations are done.

    Raises:
      InputError: images or labels do not fit the generator.
      NonFiniteError: the error of a photograph is not finite.
    """
    photographs = as_photographs(images, self.picture)
    N = len(photographs)
    rows = None if labels is None else class_rows(self.generator, labels, N)
    size = min(self.batch, N)
    found, reasons, curves = [], [], []
    self._on_evaluations = on_evaluations
    for first in range(0, N, size):
      self._done = first
      numbers = np.minimum(first + np.arange(size), N - 1)  # the last batch is filled up: one program serves all
      made, why, curve = self._batch(photographs[numbers], None if rows is None else rows[numbers])
      count = min(size, N - first)
      found.append(jax.tree.map(lambda x, count=count: np.asarray(x)[:count], made))
      reasons += why[:count]
      curves.append(Curve(curve.seconds, curve.values[:, :count]))
      on_images('photographs', first + count)
    array, state, pictures, kept = jax.tree.map(lambda *x: np.concatenate(x), *found)
    return Inversion(
      space=self.space,
      array=array,
      labels=kept,
      layer=self.layer,
      features=None if state is None else state.features,
      rgb=None if state is None else state.rgb,
      skips=() if state is None else state.skips,
      noise=self.noise,
      weights=self.weights,
      images=pictures,
      photographs=photographs,
      reasons=tuple(reasons),
      curve=joined(curves),
    )

  def _batch(self, photographs: np.ndarray, labels: np.ndarray | None):
    x, labels = self._start(photographs, labels)
    given = objective.Given(
      arrays=self._arrays,
      where=self.where,
      start=x,
      labels=labels,
      photographs=jnp.asarray(photographs),
      latents_weight=jnp.float32(self.regulariser * (1 if self.layer is None else BINDING)),
      changes_weight=jnp.float32(self.regulariser),
      preconditioner=None,
      probing=jnp.bool_(False),
    )
    first, rest = max(1, int(BEFORE * self.evaluations)), self.evaluations
    curves = []
    if self.space == 'w':
      given = given._replace(start=x.mean(axis=1, keepdims=True))
    elif self.mapped and x.shape[1] == 1:  # no encoder: first one w, then each row on its own
      kind = self._kind(x.shape[1:])
      given, unknowns, _, curve = self._minimised(kind, given, first)
      x = objective.draw(kind, given, unknowns)[1]
      given = given._replace(start=jnp.broadcast_to(x, (len(x), self.where.rows, x.shape[-1])))
      curves.append(curve)
      rest = max(1, rest - first)
    kind = self._kind(given.start.shape[1:])
    given, unknowns, reasons, curve = self._minimised(kind, given, rest if self.layer is None else first)
    curves.append(curve)
    if self.layer is not None:
      x = objective.draw(kind, given, unknowns)[1]
      state = objective.state_at(kind, self.layer, given, x)
      rgb = None if state.rgb is None else state.rgb.shape[1:]
      kind = dataclasses.replace(kind, layer=self.layer, features=state.features.shape[1:], rgb=rgb)
      given = given._replace(start=x, range=self._range, state=state)
      given, unknowns, reasons, curve = self._minimised(kind, given, max(1, rest - first))
      curves.append(curve)
    pictures, x, state = objective.draw(kind, given, unknowns)
    array = self.where.wplus(x) if self.mapped else x
    array = array[:, 0] if self.space == 'w' else array
    reasons = [minimiser.REASONS[int(i)] for i in reasons]
    return (array, state, pictures, None if self.mapped else labels), reasons, functools.reduce(Curve.then, curves)

  def _kind(self, latents: Sequence[int]) -> objective.Kind:
    return objective.Kind(self._structure, self.noise, self.loss, tuple(latents))

  def _minimised(self, kind, given, most: int) -> tuple[objective.Given, jax.Array, jax.Array, Curve]:
    """`given` with its preconditioner, the unknowns, reasons and curve after at most this many evaluations."""
    if kind not in self._preconditioners:
      x, classes = self._samples()
      x = x[:PROBES]
      x = np.broadcast_to(x, (len(x), *kind.latents)) if self.mapped else x
      labels = None if given.labels is None else classes[:PROBES]
      self._preconditioners[kind] = estimated(kind, given, x, labels)
    given = given._replace(preconditioner=self._preconditioners[kind])
    search, seconds, values = minimiser.begin(kind.start(len(given.start))), [], []
    started = time.perf_counter()
    for k in range(most):
      search = objective.advance(kind, given, search, jnp.float32(self.tolerance))
      if k % LOOK == 0 or k == most - 1:
        values.append(np.asarray(search.value))
        seconds.append(time.perf_counter() - started)
        if k == 0:
          self._check(values[0])
        self._on_evaluations('latents' if kind.layer is None else 'features', k + 1)
        if np.asarray(search.reason).all():
          break
    return given, search.x, search.reason, Curve(np.asarray(seconds), np.stack(values))

  def _check(self, value: np.ndarray) -> None:
    if not np.isfinite(value).all():
      bad = self._done + int(np.argmin(np.isfinite(value)))
      remedy = 'look at the generator and the loss'
      raise NonFiniteError('images', f'photograph {bad}', 'its error is not finite', remedy)

  def _start(self, photographs: np.ndarray, labels: np.ndarray | None):
    """Coordinates (N, L or 1, D) or (N, D) of the start, and class rows."""
    if self.encoder is not None and (labels is not None or not self.generator.num_classes):
      return _encoded(self.encoder, photographs), labels
    x, classes = self._samples()
    apart = np.asarray(_nearest(photographs, self._small_samples()))
    if classes is not None and labels is not None:
      own = labels.argmax(axis=1)[:, None] == classes.argmax(axis=1)[None]
      apart = np.where(own | ~own.any(axis=1, keepdims=True), apart, np.inf)
    best = apart.argmin(axis=1)
    if classes is not None and labels is None:
      labels = classes[best]
    return jnp.asarray(x[best]), None if labels is None else jnp.asarray(labels)

  def _samples(self) -> tuple[np.ndarray, np.ndarray | None]:
    """Coordinates (STARTS, 1, D) or (STARTS, D), and class rows, of the samples of seeds 0 to 127."""
    if self._sampled is None:
      module, classes = self.generator, None
      z = draws(module, range(STARTS))
      if module.num_classes:
        numbers = np.random.RandomState(0).permutation(STARTS) % module.num_classes
        classes = np.eye(module.num_classes, dtype=np.float32)[numbers]
      x = self.where.of(np.asarray(module.wplus(module.mapping(z, classes)).wplus))[:, :1] if self.mapped else z
      self._sampled = x, classes
    return self._sampled

  def _small_samples(self) -> np.ndarray:
    """The pictures of these samples, see `_small`."""
    if self._small is None:
      x, classes = self._samples()
      run, small = Compiled(self.generator), []
      for first in range(0, STARTS, self.batch):
        rows = np.minimum(first + np.arange(self.batch), STARTS - 1)
        labels = None if classes is None else jnp.asarray(classes[rows])
        small.append(np.asarray(_small(run(self.where.latents(run, jnp.asarray(x[rows]), labels), noise=self.noise))))
      self._small = np.concatenate(small)[:STARTS]
    return self._small


def invert(
  generator: Any,
  images: np.ndarray,
  space: str | None = None,
  *,
  labels=None,
  on_images: Callable[[str, int], None] = lambda name, n: None,
  **options,
) -> Inversion:
  """Latents, or features at a layer, of which a generator makes these photographs.

  Args:
    generator, space, options: those of `Inverter`.
    images: photographs (N, h, w, channels) of the generator's size: uint8, or numbers from -1 to 1.
    labels: class indices of a conditional generator, one for all or one each. If left out, the class of the nearest
      sample.
    on_images: called with 'photographs' and how many are done.

  Raises:
    InputError: an argument does not fit the generator.
    NonFiniteError: the error of a photograph is not finite.

  Example:
    >>> photographs = np.uint8(255 * (np.clip(images[:2], -1, 1) + 1) / 2)
    >>> found = panda_jax.invert(quarters, photographs, evaluations=50)
    >>> found.space, found.array.shape
    ('z', (2, 12))
  """
  return Inverter(generator, space, **options)(images, labels, on_images)


def _checked_number(name: str, value, least: float) -> float:
  if isinstance(value, bool) or not isinstance(value, numbers.Real) or not least <= value <= LARGEST:
    raise InputError(name, value, f'it must be a number from {least} to {LARGEST:g}', 'give another, or leave it out')
  return float(value)


def _checked_count(name: str, value) -> int:
  if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
    raise InputError(name, value, 'it must be a whole number from 1', 'give another, or leave it out')
  return int(value)


def _check_loss(loss: objective.Loss, picture: tuple[int, ...]) -> None:
  """Raises InputError unless a loss returns one error for each picture (h, w, channels)."""
  remedy = 'give a function of jax.numpy from two arrays (N, h, w, channels) to errors (N,)'
  N, name = 2, getattr(loss, '__name__', type(loss).__name__)
  pictures = jax.ShapeDtypeStruct((N, *picture), jnp.float32)
  try:
    hash(loss)
    found = jax.eval_shape(loss, pictures, pictures)
  except Exception as error:  # from the user's own code, or from JAX if it cannot trace that
    said = ' '.join(str(error).split()) or type(error).__name__
    raise InputError('loss', name, f'it cannot be traced ({said[:80]})', remedy) from error
  if (
    not isinstance(found, jax.ShapeDtypeStruct) or found.shape != (N,) or not jnp.issubdtype(found.dtype, jnp.floating)
  ):
    raise InputError('loss', name, f'of {N} pictures it makes {found}'[:120], remedy)


def _checked_space(space: str | None, layer: int | None, mapped: bool) -> str:
  if space is None:
    space = 'features' if layer is not None else 'wplus' if mapped else 'z'
  if space not in SPACES:
    raise InputError('space', space, 'there is no such space', f'give one of {", ".join(SPACES)}')
  if space in ('w', 'wplus') and not mapped:
    raise InputError('space', space, 'this generator has no mapping network, only z', 'give z or features')
  if space == 'z' and mapped:
    raise InputError('space', space, 'w is searched where there is a mapping network', 'give w')
  if space == 'features' and layer is None:
    raise InputError('layer', None, 'not given, and features are those at a layer', 'give one')
  if space != 'features' and layer is not None:
    raise InputError('layer', layer, f'{space} belongs to no layer', 'leave it out, or give space features')
  return space


@jax.jit
def _small(images: jax.Array) -> jax.Array:
  """Images reduced until each side has at most 16 pixels, clipped."""
  x = jnp.clip(images, -1, 1)
  factor = max(1, min(x.shape[1:3]) // 16)
  h, w = x.shape[1] // factor, x.shape[2] // factor
  x = x[:, : h * factor, : w * factor]
  return x.reshape(len(x), h, factor, w, factor, -1).mean(axis=(2, 4))


@jax.jit
def _nearest(photographs: jax.Array, pictures: jax.Array) -> jax.Array:
  small = _small(photographs).reshape(len(photographs), -1)
  flat = pictures.reshape(len(pictures), -1)
  return jnp.mean(jnp.square(small[:, None] - flat[None]), axis=-1)


@nnx.jit
def _encoded(encoder: Encoder, photographs: jax.Array) -> jax.Array:
  return encoder(photographs)
