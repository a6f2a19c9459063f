"""A finished fit, opened again: its factors, and the generator and latents of the fit."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.errors import InputError
from panda_jax.files.records import read_json
from panda_jax.generators.labels import each, in_turn
from panda_jax.solver.factors import Factors, digest_of
from panda_jax.workdir.config import config_form

FACTORS, CONFIG = 'factors.npz', 'config.json'
# The form of summary.json, see `files.records.misfit`. It is written last: a fit with it is finished.
SUMMARY = {
  'relative_error': float,
  'held_out?': {'samples': int, 'relative_error': float},
  'reason': str,
  'warnings': [str],
  'seconds': {str: float},
  'counts': {str: int},
  'part_energy?': [float],
  'memory?': {str: int},
  'versions?': {str: str},
  'devices?': [str],
}


def full_mean(factors: Factors) -> np.ndarray | None:
  """The mean that centring subtracted, as a feature map (H, W, C) float32; None without centring."""
  if factors.mean is None:
    return None
  S, C = factors.parts.shape[0], factors.appearances.shape[0]
  return np.broadcast_to(factors.mean, (S, C)).reshape(*factors.grid, C)


def check_fits(factors: Factors, generator, layer: int) -> None:
  """Raises InputError unless factors have the channels and the grid of a generator's layer."""
  from panda_jax.generators.base import checked_layer

  C, H, W = generator.layers[checked_layer(layer, generator.layers)]
  found = factors.appearances.shape[0], *factors.grid
  if found != (C, H, W):
    texts = [f'{c} channels on {h}x{w}' for c, h, w in (found, (C, H, W))]
    raise InputError(
      'factors', texts[0], f'layer {layer} of this generator has {texts[1]}', 'give the generator of the fit'
    )


class FinishedFit:
  """Factors with what they came from. The generator is loaded when first asked for.

  Attributes:
    factors: with provenance.
    config: the configuration of the fit, {} where none is on record.
    folder: of the fit, or None.
    layer: where the generator is split, or None for factors of arrays that name none.
    seed: of the first sample of the fit; 0 where not on record.
    noise: of the generator's layers.
    digest_factors: SHA-256 (hex) of the factors, by which named edits recognise them.
    mean: what centring subtracted, (H, W, C), or None.

  Example:
    >>> from panda_jax.workdir.finished_fit import FinishedFit
    >>> opened = FinishedFit(factors, quarters, layer=1)
    >>> opened.latents(seeds=[0, 1]).shape, opened.image_size(), opened.margin
    ((2, 12), (8, 8), 0)
    >>> opened.mapped(np.zeros((2, 12))).shape, opened.truncation, opened.labels_of([0, 1])
    ((2, 12), 1.0, None)
    >>> opened.needed_generator() is quarters, opened.generator_folder, opened.description()
    (True, None, {})
    >>> len(opened.digest_weights())
    64
  """

  def __init__(
    self, factors: Factors, generator: Any = None, layer: int | None = None, config: dict | None = None, folder=None
  ):
    """`generator`: a folder, or an object with the methods of the protocol; checked at once.

    Raises:
      InputError: it is not the generator of the fit, or the layer's sizes are others.
    """
    self.factors, self.config, self.folder = factors, config or {}, folder
    self._made = factors.provenance.get('generator') or {}
    self.layer: int | Any = factors.provenance.get('layer') if layer is None else layer  # an int with a generator
    self.seed, self.noise = int(self._made.get('seed', 0)), 'const'
    self.digest_factors, self.mean = digest_of(factors), full_mean(factors)
    self._given = generator
    if generator is not None:
      self.generator  # noqa: B018, so that a wrong generator raises first

  def __repr__(self) -> str:
    first, *more = self.factors.summary()
    return '\n'.join(
      [f'FinishedFit in {self.folder}, layer {self.layer}', f'  {first}', *(f'    {line}' for line in more)]
    )

  def digest_weights(self) -> str:
    """SHA-256 (hex) of the generator's options and weights."""
    from panda_jax.generators.source import weights_digest

    generator = self.needed_generator()
    return weights_digest(getattr(generator, 'generator', generator)).hexdigest()

  @property
  def generator_folder(self) -> str | os.PathLike | None:
    """The folder, or the name, that the generator is loaded from; None where there is none."""
    return self._source if isinstance(self._source, str | os.PathLike) else None

  def description(self) -> dict[str, Any]:
    """What generator.json in the folder of the generator says; {} where there is no folder."""
    from panda_jax.generators.disk import read_description

    return {} if self.generator_folder is None else read_description(self.generator_folder)

  @property
  def _source(self) -> Any:
    """The generator, or its folder or name."""
    return self._made.get('path') if self._given is None else self._given

  @functools.cached_property
  def generator(self):
    """The generator, compiled; a user's own object as it is; None where the fit knows of none."""
    given = self._source
    if given is None:
      return None
    from flax import nnx

    from panda_jax.generators.structure import Compiled

    generator = self._loaded(given) if isinstance(given, str | os.PathLike) else given
    generator = generator.generator if isinstance(generator, Compiled) else generator
    if self.layer is None:
      raise InputError('layer', None, 'these factors name no layer', 'give the layer that the features were taken from')
    check_fits(self.factors, generator, self.layer)
    if isinstance(generator, nnx.Module):
      self._check_hash(generator, given)
      return Compiled(generator)
    return generator

  def needed_generator(self):
    """The generator.

    Raises:
      InputError: the fit knows of none.
    """
    if self.generator is None:
      made = self.config.get('features') or self.factors.provenance.get('source')
      where = f'the fit was made on {Path(str(made)).name}' if made else 'the fit has none on record'
      raise InputError(
        'generator', None, f'not given, and {where}', 'give --generator=DIR, the generator of these features'
      )
    return self.generator

  @property
  def truncation(self) -> float:
    """Of the samples of the fit."""
    return float(self._made.get('truncation', 1))

  def latents(self, seeds: Sequence[int], labels=None, truncation: float | None = None):
    """Latents of seeds, N of them; see `labels_of`, `generators.seeds.draws` and `mapped`."""
    from panda_jax.generators import seeds as numbered

    generator = self.needed_generator()
    return self.mapped(numbered.draws(generator, seeds), self.labels_of(seeds, labels), 'z', truncation)

  def mapped(self, array: np.ndarray, labels=None, space: str = 'z', truncation: float | None = None):
    """Latents of samples in a space, as of `latents_of`; of z and w with the fit's truncation, or another one."""
    from panda_jax.generators.spaces import latents_of

    names = () if space == 'wplus' else ('truncation', 'truncation_layers')
    options = {name: self._made[name] for name in names if name in self._made}
    options |= {} if truncation is None else {'truncation': truncation}
    return latents_of(self.needed_generator(), array, space, labels, **options)

  def labels_of(self, seeds: Sequence[int], labels=None, of: str = 'seeds') -> np.ndarray | None:
    """Labels (N,) or (N, classes) of seeds: those given, one for all or one each; else those the fit gave these seeds.

    `of` is what the samples are called in an error.

    Raises:
      InputError: another number of labels.
    """
    if labels is None:
      return in_turn(self._made.get('labels'), np.asarray(seeds) - self.seed)
    return each(labels, len(seeds), of)

  @property
  def margin(self) -> int | tuple[int, int]:
    """Cells of the grid beyond the image at each edge (StyleGAN3), or (above and below, at the sides)."""
    return getattr(self.generator, 'margins', {}).get(self.layer, 0)

  def image_size(self) -> tuple[int, int] | None:
    """(h, w) of the images, or None without a generator."""
    import jax

    if self.generator is None:
      return None
    known = getattr(self.generator, 'image_size', None)
    if known is not None:
      return known
    latents = self.latents([self.seed])
    shape = jax.eval_shape(lambda x: self.generator(x), latents).shape
    return shape[1], shape[2]

  def _loaded(self, folder: str | os.PathLike):
    from panda_jax.generators import load_generator

    try:
      return load_generator(folder)
    except InputError as error:
      if self._given is not None:
        raise
      raise InputError(
        'generator', folder, f'{error.problem}, and the fit was made with it', 'give --generator=DIR, where it is now'
      ) from error

  def _check_hash(self, generator, given) -> None:
    """Raises InputError unless the weights have the hash of the fit; if the fit hashed features, nothing is checked."""
    from panda_jax.generators.source import GeneratorSource

    recorded, made = self.factors.provenance.get('sha256'), self._made
    if not made or recorded is None:
      return
    names = ('layer', 'samples', 'seed', 'labels', 'truncation', 'truncation_layers')
    try:
      source = GeneratorSource(generator, **{name: made[name] for name in names})
      same = source.digest().hexdigest() == recorded
    except (InputError, KeyError, TypeError):  # it does not accept the fit's labels
      same = False
    if not same:
      name = given if isinstance(given, str | os.PathLike) else type(generator).__name__
      raise InputError(
        'generator', name, 'its weights are not those of the fit (another hash)', 'give the generator of the fit'
      )


def open_workdir(workdir: str | os.PathLike, generator: Any = None) -> FinishedFit:
  """The fit in a folder that `panda-jax fit` wrote.

  Args:
    workdir: with factors.npz and config.json.
    generator: in place of the recorded one: a folder that moved, or an object with the methods of the protocol. An NNX
      generator must have the weights that the fit saw.

  Raises:
    InputError: there is no finished fit, its files are of two fits, or the generator is another one.

  Example:
    >>> factors.save('factors.npz')  # `panda-jax fit --workdir=.` writes it, and more
    >>> panda_jax.open_workdir('.').factors == factors
    True
  """
  workdir = Path(workdir)
  if not os.path.isfile(workdir / FACTORS):
    problem = f'there is no {FACTORS} in it' if os.path.isdir(workdir) else 'there is no such folder'
    raise InputError('workdir', workdir, problem, 'give the folder of a finished fit')
  factors, config = Factors.load(workdir / FACTORS), {}
  if os.path.lexists(workdir / CONFIG):
    config = read_json(workdir / CONFIG, 'workdir', config_form(), 'run the fit again')
    found = {'sha256': factors.provenance.get('sha256'), 'parts': factors.parts.shape[1]}
    if any(None not in (config.get(key), value) and config[key] != value for key, value in found.items()):
      problem = f'its {FACTORS} is not of the fit in its {CONFIG}'
      raise InputError('workdir', workdir, problem, 'put back the file of the same fit, or fit again with --overwrite')
  return FinishedFit(factors, generator, config=config, folder=workdir)
