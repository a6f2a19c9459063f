"""`PandA`: a fit as an estimator in the style of scikit-learn, which it does not import.

It imports the solver. Its settings are the arguments of `fit`, its result is that of `fit`.
"""

import html
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np

from panda_jax.errors import InputError, nearest
from panda_jax.features.sources import as_source
from panda_jax.solver.fit import FitResult, fit


class PandA:
  """Appearances and non-negative parts of feature maps, as an estimator.

  `fit` learns A (C, R_C) and P (S, R_S), `transform` gives the coefficients A'Z_i P of each sample, `inverse_transform`
  the features A A'Z_i P P' that they stand for (PandA, ICLR 2023, eq. 1).

  Args:
    parts: R_S, 1 to S.
    appearances: R_C, 1 to C; C if left out.
    grid: (H, W) of flattened positions.
    layout: 'NHWC' or 'NCHW', of all features that are given.
    seed, restarts, joint, orthonormal, center, rotation, precision, store, storage, batch, max_iterations, progress:
      those of `panda_jax.fit`.

  Attributes:
    factors_: canonical factors with provenance.
    result_: all that the fit gave, `FitResult`.
    appearances_: A (C, R_C) float32.
    parts_: P (S, R_S) float32.
    mean_: what centring subtracted, (S, C) or (1, C); None where nothing was.
    relative_error_: sum ||Z - A A'Z P P'||^2 / sum ||Z||^2 over the samples of the fit.
    n_iter_: how many iterations the fit took.
    n_samples_: how many samples it had.
    grid_: (H, W).

  Example:
    >>> estimator = panda_jax.PandA(parts=4)
    >>> coefficients = estimator.fit_transform(features)  # estimator.fit(features).transform(features)
    >>> coefficients.shape  # N, R_C, R_S
    (40, 3, 4)
    >>> bool(np.allclose(estimator.inverse_transform(coefficients), features, atol=1e-5))
    True
    >>> round(estimator.score(features), 3)
    1.0
    >>> estimator.set_params(parts=2).get_params()['parts']  # for the next fit
    2
  """

  def __init__(
    self,
    parts: int = 8,
    appearances: int | None = None,
    *,
    grid: tuple[int, int] | None = None,
    layout: str | None = None,
    seed: int = 0,
    restarts: int = 64,
    joint: bool = True,
    orthonormal: bool = False,
    center: str = 'none',
    rotation: str = 'none',
    precision: str = 'highest',
    store: str = 'auto',
    storage: str = 'float32',
    batch: int | None = None,
    max_iterations: int = 2000,
    progress: bool | None = None,
  ):
    self.parts = parts
    self.appearances = appearances
    self.grid = grid
    self.layout = layout
    self.seed = seed
    self.restarts = restarts
    self.joint = joint
    self.orthonormal = orthonormal
    self.center = center
    self.rotation = rotation
    self.precision = precision
    self.store = store
    self.storage = storage
    self.batch = batch
    self.max_iterations = max_iterations
    self.progress = progress

  @classmethod
  def _names(cls) -> list[str]:
    """Names of the settings."""
    return [name for name in inspect.signature(cls.__init__).parameters if name != 'self']

  def get_params(self, deep: bool = True) -> dict[str, Any]:
    """The settings as they were given. `deep` is there for scikit-learn: nothing is nested."""
    del deep
    return {name: getattr(self, name) for name in self._names()}

  def set_params(self, **settings: Any) -> 'PandA':
    """Changes settings; what was fitted stays until the next `fit`.

    Raises:
      InputError: there is no such setting.
    """
    known = self._names()
    for name in settings:
      if name not in known:
        raise InputError(name, settings[name], 'PandA has no such setting', nearest(name, known))
    for name, value in settings.items():
      setattr(self, name, value)
    return self

  def __repr__(self) -> str:
    defaults = inspect.signature(type(self).__init__).parameters
    given = self.get_params()
    changed = [name for name in given if name == 'parts' or not _same(given[name], defaults[name].default)]
    return f'{type(self).__name__}({", ".join(f"{name}={given[name]!r}" for name in changed)})'

  def _repr_html_(self) -> str:
    fitted = self.result_._repr_html_() if self.__sklearn_is_fitted__() else ''
    return f'<pre>{html.escape(repr(self))}</pre>{fitted}'

  def __sklearn_is_fitted__(self) -> bool:
    return hasattr(self, 'result_')

  def fit(self, X, y=None) -> 'PandA':
    """Learns A and P from features.

    Args:
      X: as for `panda_jax.fit`: an array (N, H, W, C), the path of a .npy file, batches, a `FeatureSource`.
      y: not used; there by convention.

    Returns:
      This estimator.

    Raises:
      InputError, NonFiniteError: see `panda_jax.fit`.
    """
    del y
    self.result_: FitResult = fit(X, **self.get_params())
    self.factors_ = self.result_.factors
    self.appearances_, self.parts_ = self.factors_.appearances, self.factors_.parts
    self.mean_, self.grid_ = self.factors_.mean, self.factors_.grid
    self.relative_error_ = self.result_.relative_error
    self.n_iter_ = len(self.result_.history)
    self.n_samples_ = self.factors_.provenance['samples']
    return self

  def transform(self, X) -> np.ndarray:
    """Coefficients A'Z_i P of each sample, (N, R_C, R_S) float32; of a centred fit, of the features less the mean.

    Raises:
      InputError: not fitted yet, or features of another grid or other channels.
      NonFiniteError: a sample holds NaN or infinity.
    """
    factors = self._fitted()
    return np.concatenate([factors.coefficients(block) for block in self._blocks(X)])

  def fit_transform(self, X, y=None) -> np.ndarray:
    """`transform` of the features that are fitted."""
    return self.fit(X, y).transform(X)

  def inverse_transform(self, X) -> np.ndarray:
    """Features A X_i P' from coefficients X (N, R_C, R_S): (N, H, W, C) float32, or (N, C, H, W) with layout 'NCHW'.

    Of what `transform` gave it makes the reconstruction A A'Z_i P P'; of a centred fit, with the mean added.

    Raises:
      InputError: not fitted yet, or no such coefficients.
    """
    features = self._fitted().features_of(X)
    return np.ascontiguousarray(features.transpose(0, 3, 1, 2)) if self.layout == 'NCHW' else features

  def score(self, X, y=None) -> float:
    """1 - relative error on features: the share of their energy (of a centred fit, variance) that is explained.

    Raises:
      InputError, NonFiniteError: see `transform`.
    """
    del y
    return 1.0 - self._fitted().relative_error(np.concatenate(list(self._blocks(X))))

  def _fitted(self):
    """The factors."""
    if not self.__sklearn_is_fitted__():
      raise InputError('PandA', 'not fitted', 'it has no factors yet', 'call fit(features) first')
    return self.factors_

  def _blocks(self, X) -> Iterator[np.ndarray]:
    """Features as blocks (n, S, C), of the grid and channels of the fit."""
    factors = self._fitted()
    source = as_source(X, self.grid, layout=self.layout)
    C = len(factors.appearances)
    if (source.grid, source.channels) != (factors.grid, C):
      found = f'{source.channels} channels on {source.grid[0]}x{source.grid[1]}'
      problem = f'the fit was of {C} channels on {factors.grid[0]}x{factors.grid[1]}'
      raise InputError('X', found, problem, 'give features of the same layer')
    return source.blocks(256)


def _same(one: Any, two: Any) -> bool:
  return one is two or (type(one) is type(two) and bool(np.all(one == two)))
