"""Edits, each an appearance, a mask and a strength that are added to features; and sums of edits.

Z' = Z + sum_e alpha_e m_e a_e' (PandA, ICLR 2023, section 3; masks in place of parts are ours). Letters: N samples, S
positions, C channels, K strengths.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

import jax
import numpy as np
from jax.typing import ArrayLike

from panda_jax.editing import masks
from panda_jax.errors import InputError
from panda_jax.solver.factors import Factors

ALPHA_UNITS = ('feature', 'rms')


class Recipe(NamedTuple):
  """How an edit was made: from these factors, with these arguments of `make_edit`. `save` writes it."""

  factors: Factors
  arguments: Mapping[str, Any]


class _Value:
  """Edits and their sums are equal if they add the same to features, and can be saved."""

  __hash__ = None  # type: ignore[assignment]  # like arrays

  def __eq__(self, other) -> bool:
    if not isinstance(self, Edit | Composed) or not isinstance(other, Edit | Composed):
      return NotImplemented
    own, others = (sorted(map(_bytes, edit.terms)) for edit in (self, other))
    return own == others

  def save(
    self,
    path: str | os.PathLike,
    name: str,
    *,
    factors: Factors | None = None,
    note: str = '',
    overwrite: bool = False,
  ) -> None:
    """Keeps the edit under a name in a JSON file of edits, which is made if need be, with the hash of its factors.

    `load_edit` reads it again, and so does `--zoo` of the command line.

    Args:
      path: of the file, such as 'edits.json'; what else is in it stays.
      name: to find it by.
      factors: that it is for; those it was made of if left out.
      note: what it does, in words.
      overwrite: replace another edit of this name.

    Raises:
      InputError: it has a mask for each sample, its factors are not known, or another edit has this name.
    """
    from panda_jax.editing import zoo

    assert isinstance(self, Edit | Composed)  # the only subclasses
    zoo.save_edit(self, path, name, factors, note, overwrite)


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Edit(_Value):
  """What is added to features: alpha times an outer product. Edits add up with `+`; the order does not matter.

  Attributes:
    direction: (C,), an appearance.
    mask: (S,), or (N, S) where every sample has its own.
    alpha: a number, or (K,) for a sweep. In feature units where direction and mask are 1 at most.
    recipe: how it was made, where that is known. What JAX makes of an edit has none.

  Example:
    >>> edit = panda_jax.make_edit(factors, part=0, appearance=1)
    >>> edit.replace(alpha=3.0)
    Edit(direction (3,), mask (16,), alpha 3.)
    >>> edit.save('edits.json', name='wink')
    >>> both = edit + panda_jax.make_edit(factors, part=1, appearance=1)
    >>> len(both.terms)
    2
  """

  direction: np.ndarray
  mask: np.ndarray
  alpha: np.ndarray | np.floating | float
  recipe: Recipe | None = None

  def __repr__(self) -> str:
    alpha = np.array2string(np.asarray(self.alpha), separator=', ', threshold=6)
    return f'Edit(direction {np.shape(self.direction)}, mask {np.shape(self.mask)}, alpha {alpha})'

  def tree_flatten_with_keys(self):
    """For JAX: the arrays with their names."""
    names = ('direction', 'mask', 'alpha')
    return tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names), None

  @classmethod
  def tree_unflatten(cls, static, leaves) -> 'Edit':
    """For JAX: what it makes of the arrays has no recipe."""
    del static
    return cls(*leaves)

  @property
  def terms(self) -> tuple['Edit', ...]:
    return (self,)

  def __add__(self, other: 'AnyEdit') -> 'Composed':
    return compose([self, other])

  def replace(self, **changes) -> 'Edit':
    """A copy with some fields changed: `edit.replace(alpha=...)` is the same edit at other strengths."""
    return dataclasses.replace(self, **changes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Composed(_Value):
  """Several edits at once: their sum, kept in an order of its own. `compose` makes them."""

  terms: tuple[Edit, ...]

  def __add__(self, other: 'AnyEdit') -> 'Composed':
    return compose([self, other])


AnyEdit = Union[Edit, Composed]  # noqa: UP007, a string above could not be joined with |


def compose(edits: Sequence[AnyEdit]) -> Composed:
  """The sum of edits. Its terms are sorted, so that any order of `edits` gives the same pictures bit for bit.

  Raises:
    InputError: nothing to add, other sizes, or sweeps of different lengths.

  Example:
    >>> one, other = panda_jax.make_edit(factors, 0, 1), panda_jax.make_edit(factors, 1, 0)
    >>> len(panda_jax.compose([one, other]).terms)
    2
  """
  terms = [term for edit in edits for term in edit.terms]
  if not terms:
    raise InputError('edits', 'none', 'there is nothing to add', 'give one or more edits')
  for name in ('direction', 'mask'):
    sizes = sorted({np.shape(getattr(term, name))[-1] for term in terms})
    if len(sizes) > 1:
      raise InputError('edits', f'{name}s of {sizes} entries', 'they are of different layers', 'add edits of one layer')
  composed = Composed(tuple(sorted(terms, key=_bytes)))
  sweep_length(composed)
  return composed


def _bytes(term: Edit) -> bytes:
  return b''.join(np.asarray(x, np.float32).tobytes() for x in (term.direction, term.mask, term.alpha))


def sweep_length(edit: AnyEdit) -> int | None:
  """K, or None where every alpha is one number.

  Raises:
    InputError: sweeps of different lengths.
  """
  lengths = {np.shape(term.alpha)[0] for term in edit.terms if np.ndim(term.alpha)}
  if len(lengths) > 1:
    raise InputError(
      'alpha', sorted(lengths), 'sweeps of different lengths', 'give every edit the same number of strengths'
    )
  return lengths.pop() if lengths else None


def offset(edit: AnyEdit) -> np.ndarray:
  """What an edit adds to features: (S, C) float32, with axes N and K in front where the edit has them."""
  K = sweep_length(edit)
  total: np.ndarray = np.zeros((), np.float32)
  for term in edit.terms:
    alpha = np.asarray(term.alpha, np.float32)
    alpha = alpha if K is None else np.broadcast_to(alpha, (K,)).reshape(K, 1, 1)
    mask = np.asarray(term.mask, np.float32)
    mask = mask if mask.ndim == 1 or K is None else mask[:, None]
    total = total + mask[..., None] * (alpha * np.asarray(term.direction, np.float32).reshape(1, -1))
  return total


def checked_alpha(alpha: ArrayLike | Sequence[float]) -> np.ndarray:
  """A strength, or a sweep (K,), float32.

  Raises:
    InputError: it is not a number, is not finite, or has more axes.
  """
  remedy = 'give a finite number, or several'
  try:
    array = np.asarray(alpha, np.float64)
  except (TypeError, ValueError) as error:
    raise InputError('alpha', alpha, 'it is not a number', remedy) from error
  if array.ndim > 1 or array.size == 0:
    raise InputError('alpha', f'shape {array.shape}', 'it is neither a number nor a list of them', remedy)
  fits = np.abs(array).max() < np.finfo(np.float32).max
  single = array.astype(np.float32) if fits else np.asarray(np.inf, np.float32)
  if not np.isfinite(single).all():
    raise InputError('alpha', alpha, 'it is not finite', remedy)
  return single


def direction_of(
  appearances: np.ndarray, index: int, convention: str = 'unit', argument: str = 'appearance'
) -> np.ndarray:
  """Column `index` of A (C, R_C), (C,) float32: of unit length under 'unit', as stored under the other conventions.

  Raises:
    InputError: an index out of range, or a column that is dead (all zero).
  """
  index = masks.checked_index(argument, index, appearances.shape[1], 'appearances')
  column = np.asarray(appearances[:, index], np.float32)
  length = np.linalg.norm(column.astype(np.float64))
  if not length:
    raise InputError(argument, index, 'it is dead (all zero)', 'choose another appearance')
  return (column / length).astype(np.float32) if convention == 'unit' else column


def make_edit(
  factors: Factors,
  part: int | Sequence[int] | None = None,
  appearance: int = 0,
  alpha: ArrayLike | Sequence[float] = 1.0,
  *,
  convention: str = 'unit',
  alpha_unit: str = 'feature',
  rms: float | None = None,
  mask: ArrayLike | None = None,
  combine: str | None = None,
  threshold: float | None = None,
  feather: float | None = None,
  parts: np.ndarray | None = None,
  directions: np.ndarray | None = None,
) -> Edit:
  """An edit from factors.

  Args:
    factors: A (C, R_C) and P (S, R_S).
    part: one part, several joined to one mask, or None for `mask` alone.
    appearance: a column of A.
    alpha: strength, or a sweep (K,).
    convention: 'unit' takes a_j/|a_j| and the part divided by its maximum, so that alpha is the feature change at the
      part's peak; 'paper' alpha a_j p' as stored; 'published' the authors' code: a_j as stored, the sum of the parts
      mapped to 0..1.
    alpha_unit: 'feature', or 'rms': alpha counts in units of `rms`, which carries over between layers and generators.
    rms: root of the mean square of the layer's activations (`layer_rms`).
    mask: (S,), (H, W) or with an axis N in front: in place of a part, or intersected with it.
    combine: joins several parts to their 'union' (the maximum of each divided by its own) or their 'sum'; union if left
      out, sum where `convention` is not 'unit'.
    threshold: makes the mask 1 where it is at least this fraction of its maximum, and 0 elsewhere.
    feather: blurs the edge of the mask by so many cells of the feature map.
    parts: (S, R_S) or (N, S, R_S) in place of the factors' own: refined ones.
    directions: (k, C), rows in place of the appearances.

  Raises:
    InputError: something out of range, not finite, dead, or of another size.

  Example:
    >>> panda_jax.make_edit(factors, part=0, appearance=1, alpha=[-2, 2])
    Edit(direction (3,), mask (16,), alpha [-2.,  2.])
  """
  if not isinstance(factors, Factors):
    raise InputError(
      'factors', type(factors).__name__, 'these are not Factors', 'give result.factors, or Factors.load(path)'
    )
  drawn = None if mask is None else masks.as_mask(np.asarray(mask), factors.grid)
  recipe: dict[str, Any] = {'part': part, 'appearance': appearance, 'alpha': alpha}
  recipe |= {'convention': convention, 'alpha_unit': alpha_unit}
  recipe |= {'rms': rms, 'mask': drawn, 'combine': combine, 'threshold': threshold, 'feather': feather}
  recipe |= {'parts': parts, 'directions': directions}
  parts = factors.parts if parts is None or part is None else _checked_parts(parts, factors)
  where = masks.mask_of(
    parts, factors.grid, part, drawn, convention=convention, combine=combine, threshold=threshold, feather=feather
  )
  alpha = checked_alpha(alpha)
  if alpha_unit not in ALPHA_UNITS:
    raise InputError('alpha_unit', alpha_unit, 'unknown', f'give one of {", ".join(ALPHA_UNITS)}')
  if alpha_unit == 'rms':
    if rms is None or not np.isfinite(rms) or rms <= 0:
      raise InputError('rms', rms, 'alpha_unit=rms needs the rms of the activations', 'give rms=layer_rms(features)')
    alpha = alpha * np.float32(rms)
  if directions is not None:
    rows = np.asarray(directions, np.float32)
    if rows.ndim != 2 or rows.shape[1] != factors.appearances.shape[0] or not np.isfinite(rows).all():
      wanted = f'finite numbers of shape (k, {factors.appearances.shape[0]})'
      raise InputError('directions', f'shape {rows.shape}', 'they are not directions of this layer', f'give {wanted}')
  appearances = factors.appearances if directions is None else rows.T
  return Edit(direction_of(appearances, appearance, convention), where, alpha, Recipe(factors, recipe))


def _checked_parts(parts: np.ndarray, factors: Factors) -> np.ndarray:
  parts = np.asarray(parts, np.float32)
  if parts.ndim not in (2, 3) or parts.shape[-2] != factors.parts.shape[0] or not np.isfinite(parts).all():
    S = factors.parts.shape[0]
    raise InputError('parts', f'shape {parts.shape}', 'they are not parts of this grid', f'give (N, {S}, R_S), finite')
  return parts


def layer_rms(features: ArrayLike) -> float:
  """Root of the mean square of features (N, H, W, C)."""
  return float(np.sqrt(np.mean(np.square(np.asarray(features, np.float32), dtype=np.float64))))
