"""The spaces in which a sample can be given, and the generator's latents from a point in each.

    z      the draw; `map` makes latents of it
    w      the output of the mapping network, before truncation; `wplus` makes w+ of it, truncated
    wplus  w+, a row for each style input, after truncation: used as it is

A generator with `mapping` and `wplus` has all three (see protocol.py), any other has only z. Letters as in protocol.py.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from panda_jax.errors import InputError
from panda_jax.generators.base import WPlus
from panda_jax.generators.protocol import Latents
from panda_jax.generators.structure import Compiled

SPACES = 'z', 'w', 'wplus'


def shapes(generator) -> dict[str, tuple[int, ...]]:
  """{space: shape of one sample} of the spaces that a generator has."""
  generator = generator.generator if isinstance(generator, Compiled) else generator
  found = {'z': (generator.z_dim,)}
  if hasattr(generator, 'wplus'):
    labels = np.zeros(1, np.int32) if generator.num_classes else None
    w = jax.eval_shape(lambda z: generator.mapping(z, labels), jax.ShapeDtypeStruct((1, generator.z_dim), jnp.float32))
    wplus = jax.eval_shape(lambda w: generator.wplus(w), w).wplus
    found |= {'w': w.shape[1:], 'wplus': wplus.shape[1:]}
  return found


def space_of(
  generator, shape: Sequence[int], given: str | None = None, recorded: str | None = None, name: object = None
) -> str:
  """The space of an array of latents: the given one, else the recorded one, else the only one with its shape.

  Args:
    generator: see the protocol.
    shape: of the array, (N, z_dim), (N, w_dim) or (N, L, w_dim).
    given: the user's choice.
    recorded: the space that its file records.
    name: of the array, for errors.

  Raises:
    InputError: the generator has no such space, or latents of another shape in it; no space has this shape; or two have
      this shape and no space is given or recorded.
  """
  known = shapes(generator)
  name = f'shape {_text(shape)}' if name is None else name
  said = given or recorded
  if said is not None:
    if said not in known:
      problem = 'this generator has no mapping network, only z' if said in SPACES else 'there is no such space'
      where = ('space', said) if given else ('latents', f'{name} ({said})')
      raise InputError(*where, problem, f'give {_wanted(known, "z") if len(known) == 1 else ", ".join(known)}')
    if tuple(shape[1:]) != known[said]:
      problem = f'it has shape {_text(shape)}, and {said} of this generator has another'
      raise InputError('latents', name, problem, f'give {_wanted(known, said)}')
    return said
  possible = [space for space in known if tuple(shape[1:]) == known[space]]
  if not possible:
    wanted = ', '.join(_wanted(known, space) for space in known)
    problem = f'it has shape {_text(shape)}, which no latents of this generator have'
    raise InputError('latents', name, problem, f'give {wanted}')
  if len(possible) > 1:
    problem = f'{" and ".join(possible)} of this generator have its shape, and the file does not say which it holds'
    raise InputError('latents', name, problem, f'give {" or ".join(f"--space={space}" for space in possible)}')
  return possible[0]


def latents_of(
  generator,
  array: ArrayLike,
  space: str = 'z',
  labels: ArrayLike | None = None,
  truncation: float = 1.0,
  truncation_layers: int | None = None,
) -> Latents:
  """What drives a generator, from samples in one of its spaces.

  Args:
    generator: of one of our families, or any object with the methods of `Generator`.
    array: (N, z_dim), (N, w_dim) or (N, L, w_dim).
    space: the one that the array is in: 'z', 'w' or 'wplus'.
    labels: classes that go with z, as `map` takes them.
    truncation, truncation_layers: applied to z and w, as by `map`.

  Raises:
    InputError: the generator has no such space, or the array another shape; labels with w or w+, which hold the class
      already; truncation with w+, which is truncated already; and what `map` raises.

  Example:
    >>> from panda_jax.generators.spaces import latents_of
    >>> latents_of(generator, np.zeros((2, generator.w_dim)), space='w').wplus.shape
    (2, 10, 128)
  """
  if space == 'z':
    return generator.map(array, labels, truncation=truncation, truncation_layers=truncation_layers)
  space_of(generator, np.shape(array), given=space)
  if labels is not None:
    raise InputError('labels', 'given', f'{space} holds the class of a sample already', 'leave them out, or give z')
  if space == 'w':
    return generator.wplus(array, truncation=truncation, truncation_layers=truncation_layers)
  for argument, value, none in (('truncation', truncation, 1), ('truncation_layers', truncation_layers, None)):
    if value != none:
      raise InputError(argument, value, 'w+ is truncated already', 'leave it out, or give z or w')
  return WPlus(jnp.asarray(array))


def _text(shape: Sequence[int]) -> str:
  return 'x'.join(map(str, shape)) or 'scalar'


def _wanted(known: dict[str, tuple[int, ...]], space: str) -> str:
  return f'{space} as (N, {", ".join(map(str, known[space]))})'
