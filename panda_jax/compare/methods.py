"""The discovery of each method of a comparison, and the candidates that it offers for a region.

A method's discovery writes its own folder, so that it can run in its own process and runs only once: directions for the
rivals (one folder, or one for each region), factors for PandA and its ablations.
Letters: S positions, C channels, d latent size.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.compare.protocol import Candidate
from panda_jax.editing.editor import Edit, make_edit
from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import npz_bytes, read_npz
from panda_jax.files.records import read_json, write_json
from panda_jax.generators.source import GeneratorSource
from panda_jax.regions.region_edit import best_part, region_edit
from panda_jax.rivals import directions as found_directions
from panda_jax.rivals.movement import checked_rows, latent_space
from panda_jax.rivals.reference import References, reference_grams
from panda_jax.solver import fit
from panda_jax.solver.factors import Factors

RANDOM_SEED = 0
PUBLISHED_CHANNELS = {'lowrankgan': 'mean', 'resefa': 'sum'}  # how the published codes join colours
PER_REGION = 'stylespace', 'lowrankgan', 'resefa'  # their results depend on the region
FITS = {
  'panda': {},
  'panda_frozen': {'joint': False},
  'panda_orthonormal': {'orthonormal': True},
  'panda_centered': {'center': 'position'},
}
EXPLAINED = {
  'sefa': 'SeFa',
  'ganspace': 'GANSpace',
  'stylespace': 'StyleSpace',
  'lowrankgan': 'LowRankGAN',
  'resefa': 'ReSeFa',
  'panda': 'PandA',
  'panda_region': 'ours: appearance for the region',
  'panda_joint': 'ours: appearance and mask',
  'panda_refined': 'PandA, parts refined for each sample',
  'panda_published': 'PandA, parts mapped to 0..1',
  'panda_frozen': 'PandA, A kept at its start',
  'panda_orthonormal': 'PandA, orthonormal A',
  'panda_centered': 'PandA, mean feature map subtracted',
  'pca_parts': 'PCA in place of parts',
  'random_direction': 'random directions',
  'random_part': 'random parts and appearances',
}


@dataclasses.dataclass(frozen=True)
class Task:
  """The inputs of a discovery: the generator, the configuration's values, and the regions' masks (h, w) bool."""

  generator: Any
  settings: dict
  masks: dict[str, np.ndarray]
  root: Path  # of the folders of all methods

  @property
  def mapping(self) -> dict:
    return {name: self.settings[name] for name in ('truncation', 'truncation_layers')}

  def folder(self, method: str, region: str | None = None) -> Path:
    return self.root / method / region if region else self.root / method

  def rows(self) -> tuple[int, ...] | None:
    """Rows of w+ that are moved; None where the latents have no rows."""
    if latent_space(self.generator)[0] != 'w':
      return None
    wplus = self.generator.map(np.zeros((1, self.generator.z_dim), np.float32), self.labels(1)).wplus
    return checked_rows(self.settings['rows'], wplus.shape[1])

  def labels(self, count: int) -> np.ndarray | None:
    classes = getattr(self.generator, 'num_classes', 0)
    return np.arange(count) % classes if classes else None

  def classes(self) -> range | None:
    """All classes, which samples take in turn; None without classes."""
    count = getattr(self.generator, 'num_classes', 0)
    return range(count) if count else None

  def features(self) -> GeneratorSource:
    settings = self.settings
    return GeneratorSource(
      self.generator, settings['layer'], settings['samples'], labels=self.classes(), **self.mapping
    )

  def grid(self) -> tuple[int, int]:
    """(H, W) of the layer that PandA edits."""
    return tuple(self.generator.layers[self.settings['layer']][1:])

  def margin(self) -> int | tuple[int, int]:
    """Positions at each border of that layer that lie outside of the image (StyleGAN3)."""
    return getattr(self.generator, 'margins', {}).get(self.settings['layer'], 0)

  def factors(self, method: str = 'panda') -> Factors:
    return Factors.load(self.folder(method) / 'factors.npz')


def edits_features(method: str) -> bool:
  """Whether a method edits features at a layer, with PandA's fit or its own."""
  return method.startswith('panda') or method in ('pca_parts', 'random_part')


def uses_fit(method: str) -> bool:
  """Whether a method uses the factors of 'panda'."""
  return method in ('panda_region', 'panda_joint', 'panda_refined', 'panda_published', 'random_part')


def discover(task: Task, method: str) -> None:
  """Writes the result of a method into its folder.

  Raises:
    InputError: the method is not defined on this generator.
  """
  if method in FITS:
    result = fit.fit(task.features(), task.settings['parts'], **FITS[method])
    task.folder(method).mkdir(parents=True, exist_ok=True)
    result.factors.save(task.folder(method) / 'factors.npz')
  elif method == 'pca_parts':
    _pca_parts(task)
  elif method in ('panda_region', 'panda_joint'):
    for region in task.masks:
      _for_region(task, method, region)
  elif method == 'random_direction':
    _random_directions(task)
  elif method not in ('panda_refined', 'panda_published', 'random_part'):
    _rival(task, method)


def _rival(task: Task, method: str) -> None:
  """Directions of a rival: one folder, or one for each region."""
  from panda_jax.rivals import METHODS

  settings, rows = task.settings, task.rows()
  find, published, k = METHODS[method], settings['published'], settings['candidates']
  common: dict[str, Any] = {'k': k, 'published': published, 'layers': rows}
  if method == 'sefa':
    find(task.generator, **common).save(task.folder(method))
  elif method == 'ganspace':
    drawn = {'truncation': settings['truncation'], 'labels': task.classes()}
    find(task.generator, **common, **drawn).save(task.folder(method))
  elif method == 'stylespace':
    _stylespace(task, k, published)
  else:
    references = References(settings['reference_seeds'], task.labels(len(settings['reference_seeds'])), **task.mapping)
    joined = PUBLISHED_CHANNELS[method] if published else None
    regions = [settings['regions'][name] for name in task.masks]
    grams = reference_grams(
      task.generator, regions, layers=rows, references=references, published=published, channels=joined
    )
    for region, box in zip(task.masks, regions, strict=True):
      chosen = find(task.generator, region=box, grams=grams, **common)
      chosen.save(task.folder(method, region))


def _stylespace(task: Task, k: int, published: bool) -> None:
  """Styles that act in each region; with the published votes some regions may have none."""
  from panda_jax.rivals import METHODS

  regions, refused = task.settings['regions'], None
  for region in task.masks:
    others = [regions[name] for name in task.masks if name != region] if published else []
    try:
      found = METHODS['stylespace'](
        task.generator,
        region=regions[region],
        others=others,
        k=k,
        published=published,
        labels=task.classes(),
        **task.mapping,
      )
    except InputError as error:
      refused = error
      continue
    found.save(task.folder('stylespace', region))
  if not task.folder('stylespace').exists():
    raise refused


def _for_region(task: Task, method: str, region: str) -> None:
  """Our own edits for a region: the appearance at the part that covers the region best, or appearance and mask."""
  factors, settings = task.factors(), task.settings
  part = best_part(factors.parts, factors.grid, task.masks[region], task.margin())
  count = min(settings['region_samples'], settings['samples'])
  found = region_edit(
    task.generator,
    task.features().latents(np.arange(count)),
    settings['layer'],
    task.masks[region],
    factors.parts[:, part],
    joint=method == 'panda_joint',
    target=settings['target'],
    margin=task.margin(),
    size=settings['size'],
  )
  folder = task.folder(method, region)
  folder.mkdir(parents=True, exist_ok=True)
  arrays = {'direction': found.edit.direction, 'mask': found.edit.mask, 'alpha': found.edit.alpha}
  write_atomically(folder / 'edit.npz', npz_bytes(**arrays))
  scores = {name: float(x) if np.isfinite(x) else None for name, x in found.scores.items()}
  record = {'part': part, 'reached': found.reached, 'scores': scores, 'history': [float(x) for x in found.history]}
  write_json(folder / 'edit.json', record)


def _found_for_region(task: Task, method: str, region: str) -> list[Candidate]:
  folder = task.folder(method, region)
  arrays = read_npz(folder / 'edit.npz', 'workdir', ('direction', 'mask'))
  edit = Edit(arrays['direction'], arrays['mask'], np.float32(1))
  part = read_json(folder / 'edit.json', 'workdir', {'part': int})['part']
  return [Candidate(f'part {part}' if method == 'panda_region' else 'a mask of its own', edit=edit)]


def _random_directions(task: Task) -> None:
  """Directions drawn from a normal distribution: a control for the choice on held-out samples."""
  space, d = latent_space(task.generator)
  count = task.settings['candidates']
  vectors = np.random.RandomState(RANDOM_SEED).randn(count, d)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  found_directions.Directions(
    'random_direction', space, task.rows(), vectors, np.ones(count), 'length', provenance={'seed': RANDOM_SEED}
  ).save(task.folder('random_direction'))


def _pca_parts(task: Task) -> None:
  """Leading eigenvectors of K = sum Z Z' over positions: the parts' problem at W = I without P >= 0.

  Without P >= 0, any orthonormal basis of their span has the same error, so this is also the factorisation without the
  constraint.
  """
  source = task.features()
  K = C = None
  for block in source.blocks(64):
    Z = np.asarray(block, np.float64)
    K = np.einsum('nsc,ntc->st', Z, Z, optimize=True) + (0 if K is None else K)
    C = np.einsum('nsc,nsd->cd', Z, Z, optimize=True) + (0 if C is None else C)
  parts = np.linalg.eigh(K)[1][:, ::-1][:, : task.settings['parts']]
  appearances = np.linalg.eigh(C)[1][:, ::-1]
  folder = task.folder('pca_parts')
  folder.mkdir(parents=True, exist_ok=True)
  arrays = {'parts': parts.astype(np.float32), 'appearances': appearances.astype(np.float32)}
  write_atomically(folder / 'factors.npz', npz_bytes(**arrays))


def candidates(task: Task, method: str, region: str) -> list[Candidate]:
  """A method's candidates for a region, in the method's own order; the configuration limits their number.

  No held-out or test samples are used here.
  """
  count = task.settings['candidates']
  mask = task.masks[region]
  if method in FITS:
    return _panda(task, task.factors(method), mask)
  if method == 'panda_published':
    return _panda(task, task.factors(), mask, convention='published')
  if method == 'panda_refined':
    factors = task.factors()
    part = best_part(factors.parts, factors.grid, mask, task.margin())
    offered = _panda(task, factors, mask)
    return [dataclasses.replace(candidate, refined=(part, factors)) for candidate in offered]
  if method == 'pca_parts':
    arrays = read_npz(task.folder(method) / 'factors.npz', 'workdir', ('parts', 'appearances'))
    parts, appearances = arrays['parts'], arrays['appearances']
    part = best_part(np.abs(parts), task.grid(), mask, task.margin())
    where = parts[:, part] / np.abs(parts[:, part]).max()
    return [
      Candidate(f'component {part}, appearance {j}', edit=Edit(appearances[:, j], where, np.float32(1)))
      for j in range(min(count, appearances.shape[1]))
    ]
  if method == 'random_part':
    factors = task.factors()
    rng = np.random.RandomState(RANDOM_SEED)
    pairs = [(int(rng.choice(_live(factors.parts))), int(rng.choice(_live(factors.appearances)))) for _ in range(count)]
    return [Candidate(f'part {k}, appearance {j}', edit=make_edit(factors, k, j)) for k, j in pairs]
  if method in ('panda_region', 'panda_joint'):
    return _found_for_region(task, method, region)
  folder = task.folder(method, region if method in PER_REGION else None)
  if not folder.exists():
    return []  # the method finds nothing for this region
  found = found_directions.load(folder)
  return [
    Candidate(f'direction {j}', step=found.step(j), space=found.space, layers=found.layers)
    for j in range(min(count, len(found)))
  ]


def _panda(task: Task, factors: Factors, mask: np.ndarray, convention: str = 'unit') -> list[Candidate]:
  """Edits at the part that covers the region best, with the appearances of most energy."""
  part = best_part(factors.parts, factors.grid, mask, task.margin())
  return [
    Candidate(f'part {part}, appearance {j}', edit=make_edit(factors, part, j, convention=convention))
    for j in _live(factors.appearances)[: task.settings['candidates']].tolist()
  ]


def _live(columns: np.ndarray) -> np.ndarray:
  """Indices of columns that are not all zero."""
  return np.flatnonzero(np.any(columns != 0, axis=0))
