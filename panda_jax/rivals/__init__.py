"""The methods that PandA is compared with: directions of a generator's latent spaces.

sefa.py, ganspace.py, stylespace.py (with style_gradients.py), lowrankgan.py (with robust_pca.py) and resefa.py are the
methods. Several of them use directions.py (the result), draws.py, movement.py, jacobian.py, grams.py and reference.py
(derivatives of reference images), pca.py and spectra.py.

`METHODS[name]` is `discover(generator, *, ...) -> Directions`. Arguments that several methods take have the same names:

  k: number of directions at most; None for all.
  layers: the rows of w+ that the directions are for, and that they move; None for the method's own choice.
  region: (h, w) boolean mask of the image's size, or a box (r0, r1, c0, c1) of rows r0 .. r1 - 1, columns c0 .. c1 - 1.
  samples, seed, truncation, labels: the samples drawn; sample i has labels[i mod len(labels)].
  published: reproduce the published code, also where it is wrong; without it its errors are corrected.
  on_progress: called with (name of the step, amount done, total amount).

A method that cannot work on a generator raises an InputError that says why.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping

from panda_jax.rivals.directions import Directions, load

NAMES = ('sefa', 'ganspace', 'stylespace', 'lowrankgan', 'resefa')


class _Methods(Mapping[str, Callable[..., Directions]]):
  """{name: discover}; a method's module is imported on first use."""

  def __getitem__(self, name: str) -> Callable[..., Directions]:
    if name not in NAMES:
      raise KeyError(name)
    return importlib.import_module(f'panda_jax.rivals.{name}').discover

  def __iter__(self) -> Iterator[str]:
    return iter(NAMES)

  def __len__(self) -> int:
    return len(NAMES)


METHODS = _Methods()

__all__ = ['METHODS', 'NAMES', 'Directions', 'load']
