"""Edits on images: add to the features at a layer, then run the rest of the generator.

Letters: N samples, S positions, C channels, E edits, K strengths; images are (h, w, channels) before clipping.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from panda_jax.editing.edits import AnyEdit, Composed, Edit, compose, layer_rms, make_edit, offset, sweep_length
from panda_jax.errors import InputError
from panda_jax.generators.base import checked_layer
from panda_jax.generators.protocol import Generator, Held, driving
from panda_jax.generators.structure import Compiled, methods, plain, split

__all__ = [
  'AnyEdit',
  'Composed',
  'Edit',
  'EditResult',
  'Editor',
  'added',
  'compose',
  'difference',
  'layer_rms',
  'make_edit',
  'offset',
]

BATCH_PIXELS, MOST_IMAGES = 1 << 19, 64  # limits of one call: eight images of 256 x 256
TERMS = 4  # sums of edits are padded to a multiple of this, so that one more edit compiles nothing


class EditResult(NamedTuple):
  """Pictures before clipping, float32; the axes E and K are there where several edits, or sweeps, were asked for.

  Attributes:
    original: (N, h, w, channels), G(w): the same compiled call as `edited`, with nothing added.
    edited: (N, [E], [K], h, w, channels).
    difference: edited - original.
  """

  original: np.ndarray
  edited: np.ndarray
  difference: np.ndarray


class Editor:
  """Applies edits at a layer of a generator, compiled once for each number of images that are resumed at a time.

  Directions, masks and strengths are arguments of the compiled call, so that another part, appearance, alpha or seed,
  or other factors, compile nothing. Keep an Editor to keep what it compiled.

  Args:
    generator: of one of our families, plain or `Compiled`, or any object with the methods of the protocol. One whose
      methods JAX cannot trace is called as it is.
    layer: where features are edited.
    noise: 'const' or 'none', the same for original and edited.
    drop_rgb: forget the RGB made before the layer, as the published code does; the original is then not G(w).
    batch: most images to resume at a time; by size if left out.

  Raises:
    InputError: no such layer or noise.

  Example:
    >>> editor = panda_jax.Editor(quarters, layer=1)
    >>> edit = panda_jax.make_edit(factors, part=0, appearance=0, alpha=[-1, 0, 1])
    >>> editor.images(latents[:2], edit).edited.shape  # two samples, three strengths
    (2, 3, 8, 8, 3)
    >>> for original, edited in editor.batches(latents, edit):  # where all pictures do not fit into memory
    ...   print(edited.shape)
    (16, 3, 8, 8, 3)
    (16, 3, 8, 8, 3)
    (8, 3, 8, 8, 3)
    >>> state = editor.state(latents[:2])
    >>> editor.resumed(latents[:2], state, [edit.replace(alpha=1), edit.replace(alpha=2)]).shape  # one edit each
    (2, 8, 8, 3)
    >>> editor.variants(latents[:1], editor.state(latents[:1]), [edit.replace(alpha=1), edit.replace(alpha=2)]).shape
    (2, 8, 8, 3)
    >>> editor.compilations()
    3
  """

  def __init__(
    self,
    generator: Generator | Compiled,
    layer: int,
    noise: str = 'const',
    drop_rgb: bool = False,
    batch: int | None = None,
  ):
    self.generator: Generator = plain(generator)
    layers = self.generator.layers
    self.layer = checked_layer(layer, layers)
    channels, height, width = layers[self.layer]
    self._channels, self._positions = channels, height * width
    if noise not in ('const', 'none'):
      raise InputError(
        'noise', noise, 'the originals and the edited pictures need the same one', "give 'const' or 'none'"
      )
    if batch is not None and (not isinstance(batch, int | np.integer) or batch < 1):
      raise InputError('batch', batch, 'it is not a number of images', 'give one from 1')
    self._batch = batch
    self._noise, options = noise, {'noise': noise}

    structure, self._arrays = split(self.generator)

    def run_to(arrays, latents):
      return structure.generator(arrays).run_to(latents, self.layer, **options)

    def resume(arrays, latents, state, table):
      where, directions = table[..., : self._positions], table[..., self._positions :]
      state = state.replace(features=added(state.features, where, directions))
      return structure.generator(arrays).run_from(latents, state, self.layer, drop_rgb=drop_rgb, **options)

    self._functions = run_to, resume
    self._programs: tuple[Callable[..., Any], Callable[..., Any]] = jax.jit(run_to), jax.jit(resume)
    if isinstance(self.generator, nnx.Module):  # shares one program with all other runs to this layer
      shared = functools.partial(methods(structure)['run_to'], layer=self.layer, **options)
      self._programs = shared, self._programs[1]
    self._pixels: int | None = None

  def compilations(self) -> int:
    """How often the resume was compiled so far."""
    return 0 if self._programs is self._functions else cast(Any, self._programs[1])._cache_size()

  def _run(self, which: int, *args):
    try:
      return self._programs[which](self._arrays, *args)
    except jax.errors.JAXTypeError:
      if isinstance(self.generator, nnx.Module) or self._programs is self._functions:
        raise
      self._programs = self._functions  # a user's generator that cannot be traced
      return self._programs[which](self._arrays, *args)

  def state(self, latents):
    """The generator's state at the layer, for latents of N samples; the one that these hold, if they do.

    Raises:
      InputError: the state that they hold is at another layer, or of another noise.
    """
    if not isinstance(latents, Held):
      return self._run(0, latents)
    if latents.layer != self.layer:
      problem = f'they hold features at layer {latents.layer}, and edits here are at layer {self.layer}'
      raise InputError('latents', 'inverted', problem, f'invert again with --layer={self.layer}')
    if latents.noise != self._noise:
      problem = f'the features that they hold were inverted with noise {latents.noise}'
      raise InputError('noise', self._noise, problem, f"give the Editor noise='{latents.noise}'")
    return latents.state

  def resumed(self, latents, state, edits: AnyEdit | Sequence[AnyEdit]) -> jax.Array:
    """Images (N, h, w, channels) of N samples given their state; each gets the edit, or sample i edits[i].

    One compiled call, with a cost of less than 5 % above that of resuming alone.
    """
    listed = [edits] * _count(latents) if isinstance(edits, Edit | Composed) else edits
    rows = [_Row(edit, i, None, i) for i, edit in enumerate(listed)]
    return self._run(1, driving(latents), state, self._table(rows))

  def variants(self, latents, state, edits: Sequence[AnyEdit]) -> np.ndarray:
    """Pictures (E, h, w, channels) of one sample given its state, with each of E edits, in as few calls as may be."""
    return self._all(latents, state, [_Row(edit, 0, None) for edit in edits])

  def images(self, latents, edits: AnyEdit | Sequence[AnyEdit]) -> EditResult:
    """Original and edited pictures of N samples.

    Args:
      latents: of N samples, as of `generator.map`.
      edits: one edit, or several, each on its own (`compose` adds them up); with strengths alpha, or sweeps (K,).

    Raises:
      InputError: an edit is of another layer, or has masks for another number of samples.
    """
    found = list(self.batches(latents, edits))
    original, edited = (np.concatenate(x) for x in zip(*found, strict=True))
    return EditResult(original, edited, difference(original, edited))

  def batches(self, latents, edits: AnyEdit | Sequence[AnyEdit]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `images`, some samples at a time: (original, edited) of the next samples, in order."""
    single = isinstance(edits, Edit | Composed)
    listed = [edits] if isinstance(edits, Edit | Composed) else list(edits)
    N = _count(latents)
    K = self._check(listed, N)
    variants = [(edit, k) for edit in listed for k in range(K or 1)]
    shape = (*(() if single else (len(listed),)), *(() if K is None else (K,)))
    n = max(1, min(N, self._most(latents) // (1 + len(variants))))
    for first in range(0, N, n):
      samples = np.minimum(first + np.arange(n), N - 1)  # the last batch is padded: one program serves all
      batch = samples_of(latents, samples)
      state = self.state(batch)
      rows = [_Row(None, i, None) for i in range(n)]
      rows += [_Row(edit, i, k if K else None, samples[i]) for i in range(n) for edit, k in variants]
      pictures = self._all(batch, state, rows)
      count = min(n, N - first)
      original, edited = pictures[:n], pictures[n:].reshape(n, len(variants), *pictures.shape[1:])
      for v, (edit, k) in enumerate(variants):  # the resume's rounding may depend on a picture's place in the batch
        for i, sample in enumerate(samples):
          if _adds_nothing(edit, k, sample):
            edited[i, v] = original[i]
      yield original[:count], edited[:count].reshape(count, *shape, *pictures.shape[1:])

  def _all(self, latents, state, rows: list['_Row']) -> np.ndarray:
    """The pictures of rows, in calls of equal numbers of images."""
    latents = driving(latents)
    calls = -(-len(rows) // self._most(latents))
    size = -(-len(rows) // calls)
    filled = rows + rows[-1:] * (calls * size - len(rows))
    out, waiting = [], None
    for first in range(0, len(filled), size):
      chunk = filled[first : first + size]
      index = np.array([row.sample for row in chunk])
      following = self._run(1, *samples_of((latents, state), index), self._table(chunk))
      if waiting is not None:  # copied while the device computes the next pictures
        out.append(np.asarray(waiting, np.float32))
      waiting = following
    return np.concatenate([*out, np.asarray(waiting, np.float32)])[: len(rows)]

  def _table(self, rows: list['_Row']) -> np.ndarray:
    """Masks and directions of these rows, strength included, in one array (B, T, S + C)."""
    most = max((len(row.edit.terms) for row in rows if row.edit is not None), default=1)
    S = self._positions
    table = np.zeros((len(rows), -(-most // TERMS) * TERMS, S + self._channels), np.float32)
    for b, row in enumerate(rows):
      for t, term in enumerate(row.edit.terms if row.edit is not None else ()):
        table[b, t, :S] = _mask(term, row.number)
        np.multiply(term.direction, _strength(term, row.k), out=table[b, t, S:], dtype=np.float32)
    return table

  def _most(self, latents) -> int:
    """Number of images at a time."""
    if self._batch is not None:
      return int(self._batch)
    if self._pixels is None:
      size = getattr(self.generator, 'image_size', None)
      if size is None:
        one = samples_of(latents, np.array([0]))
        size = self.generator.run_from(driving(one), self.state(one), self.layer).shape[1:3]
      self._pixels = int(np.prod(size))
    return max(1, min(MOST_IMAGES, BATCH_PIXELS // self._pixels))

  def _check(self, edits: list[AnyEdit], N: int) -> int | None:
    """K of all edits, or None."""
    if not edits:
      raise InputError('edits', 'none', 'there is nothing to do', 'give one or more edits')
    S, C = self._positions, self._channels
    for term in (term for edit in edits for term in edit.terms):
      found = np.shape(term.direction)[-1], np.shape(term.mask)[-1]
      if found != (C, S):
        raise InputError(
          'edits',
          f'{found[0]} channels, {found[1]} positions',
          f'layer {self.layer} has {C} and {S}',
          'give edits of this layer',
        )
      if np.ndim(term.mask) == 2 and np.shape(term.mask)[0] != N:
        raise InputError('mask', f'{len(term.mask)} of them', f'there are {N} samples', 'give one mask, or one each')
    lengths = {K for edit in edits if (K := sweep_length(edit)) is not None}
    if len(lengths) > 1:
      raise InputError(
        'alpha', sorted(lengths), 'sweeps of different lengths', 'give every edit the same number of strengths'
      )
    return lengths.pop() if lengths else None


def difference(original: np.ndarray, edited: np.ndarray) -> np.ndarray:
  """edited - original; `edited` may have more axes between N and h."""
  between = edited.ndim - original.ndim
  return edited - original.reshape(original.shape[0], *(1,) * between, *original.shape[1:])


def added(features: jax.Array, where: jax.Array, directions: jax.Array) -> jax.Array:
  """features (B, H, W, C) plus, in each sample b, the sum over t of where[b, t] directions[b, t]'.

  Positions and samples to which nothing is added keep their bits, signs of zeros among them.

  Args:
    where: (B, T, S).
    directions: (B, T, C), strength included.
  """
  # Written-out outer products fuse into one pass over the features; a matrix product would store them first.
  B, T, S = where.shape
  products = (where[:, t].reshape(B, S, 1) * directions[:, t].reshape(B, 1, -1) for t in range(T))
  change = cast(jax.Array, sum(products)).reshape(features.shape)
  changed = (features.astype(change.dtype) + change).astype(features.dtype)
  return jnp.where(change == 0, features, changed)


class _Row(NamedTuple):
  """One picture of a call: an edit (None: the original), the sample's place in the call, k of a sweep, its number."""

  edit: AnyEdit | None
  sample: int
  k: int | None
  number: int = 0


def _strength(term: Edit, k: int | None) -> np.ndarray:
  alpha = np.asarray(term.alpha, np.float32)
  return alpha if not alpha.ndim else alpha[k]


def _adds_nothing(edit: AnyEdit, k: int, sample: int) -> bool:
  return all(
    _strength(term, k) == 0 or not np.any(_mask(term, sample)) or not np.any(term.direction) for term in edit.terms
  )


def _mask(term: Edit, sample: int) -> np.ndarray:
  mask = np.asarray(term.mask)
  return mask if mask.ndim == 1 else mask[sample]


def _count(tree) -> int:
  return jax.tree.leaves(tree)[0].shape[0]


def samples_of(tree, index: np.ndarray):
  """The samples at `index` of latents or a state; the tree itself where the index is all samples in order.

  It is one program for each number of samples. Without it JAX compiles half a dozen.
  """
  N = _count(tree)
  return tree if len(index) == N and (index == np.arange(N)).all() else _rows(tree, index)


@jax.jit
def _rows(tree, index):
  return jax.tree.map(lambda x: x[index] if x.ndim else x, tree)
