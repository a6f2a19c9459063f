"""The files of `panda-jax discover`: directions with a record, and a strip of the first ones on a few samples.

Letters: k directions, d latent size, N samples, K strengths.
"""

import dataclasses
import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators.source import weights_digest
from panda_jax.generators.structure import plain
from panda_jax.pictures import strips
from panda_jax.rivals import METHODS, NAMES
from panda_jax.rivals.directions import ARRAY, RECORD, Directions
from panda_jax.rivals.draws import Report, silent
from panda_jax.rivals.jacobian import area_weights, one_of, reduced_size, reference_latents
from panda_jax.rivals.movement import Mover
from panda_jax.runtime.environment import versions
from panda_jax.workdir.folders import claimed

SETTINGS = 'provenance', 'discovery', 'settings'  # keys to them in the record of directions
STRIP = 'strip.png'
SHOWN = 5  # directions on the strip
VISIBLE = 0.1  # root mean square change of images, black to white being 2, at the larger strength of a strip
TILE = 256  # largest side in pixels of the strip's images
LARGEST = 2.0**12  # strength; directions without visible change are drawn with it
CALLED = {'layers': 'rows', 'k': 'count', 'seeds': 'references'}  # {argument of a method: its flag}
DRAWN = 'labels', 'truncation', 'truncation_layers'  # also of the strip, so methods without them do not raise an error


@dataclasses.dataclass(frozen=True)
class Strip:
  """The samples and strengths of the strip.

  Attributes:
    seeds: of the samples.
    labels: their classes; sample i has labels[i mod len(labels)].
    truncation, truncation_layers: as of `generator.map`.
    alphas: strengths; chosen by the change of images if left out.
  """

  seeds: Sequence[int] = (0, 1, 2, 3)
  labels: Sequence[int] | None = None
  truncation: float = 1.0
  truncation_layers: int | None = None
  alphas: Sequence[float] | None = None


def arguments_of(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
  """The given arguments that are not None, after a check that they fit the method.

  Args:
    given: by their names in `discover`; None if not given.

  Raises:
    InputError: there is no such method, it has no such argument, or a required argument is missing.
  """
  if method not in NAMES:
    raise InputError('method', method, 'there is no such method', f'give one of {", ".join(NAMES)}')
  taken = inspect.signature(METHODS[method]).parameters
  chosen = {name: value for name, value in given.items() if value is not None}
  for name, value in chosen.items():
    if name not in taken and name not in DRAWN:
      text = ','.join(map(str, value)) if isinstance(value, tuple) else value
      raise InputError(CALLED.get(name, name), text, f'{method} takes none', 'leave it out')
  for name, parameter in taken.items():
    if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty and name not in chosen:
      example = f' such as --{CALLED.get(name, name)}=r0,r1,c0,c1' if name == 'region' else ''
      raise InputError(CALLED.get(name, name), None, f'not given, and {method} needs it', f'give one{example}')
  return {name: value for name, value in chosen.items() if name in taken}


def discover_into(
  out: str | os.PathLike,
  generator,
  method: str,
  arguments: Mapping[str, Any],
  strip: Strip | None = None,
  *,
  overwrite: bool = False,
  command: str = '',
  on_progress: Report = silent,
) -> tuple[Directions, dict[str, tuple[int, ...]]]:
  """Discovers and writes directions.npy (k, d) float32, directions.json and strip.png into a folder.

  Args:
    out: folder. One with directions of other settings raises an error without `overwrite`.
    generator: plain or compiled, or a user's own.
    method: a key of METHODS.
    arguments: keywords of its `discover`.
    strip: the picture to draw.
    command: for the record.
    on_progress: as of `discover`.

  Returns:
    The directions, and {file name: shape} of the arrays.

  Raises:
    InputError: as of the method; or files cannot be written, or the folder has other results.
  """
  out, strip = Path(out), strip or Strip()
  generator = plain(generator)
  settings = {
    'method': method,
    'weights': weights_digest(generator).hexdigest(),
    'weights_seen': isinstance(generator, nnx.Module),
    'arguments': {name: _json(value) for name, value in arguments.items()},
  }
  with claimed(out, RECORD, settings, 'other directions are', overwrite, marker=ARRAY, keys=SETTINGS):
    return _discovered(out, generator, method, arguments, settings, strip, command, on_progress)


def _discovered(
  out: Path,
  generator,
  method: str,
  arguments: Mapping[str, Any],
  settings: dict,
  strip: Strip,
  command: str,
  on_progress: Report,
) -> tuple[Directions, dict[str, tuple[int, ...]]]:
  latents = reference_latents(generator, strip.seeds, strip.labels, strip.truncation, strip.truncation_layers)
  began = time.perf_counter()
  found = METHODS[method](generator, **arguments, on_progress=on_progress)
  record = {'settings': settings, 'command': command, 'versions': versions()}
  record['seconds'] = round(time.perf_counter() - began, 3)
  found = dataclasses.replace(found, provenance={**found.provenance, 'discovery': record})
  pictures = _pictures(generator, found, latents, strip, on_progress)
  (out / RECORD).unlink(missing_ok=True)  # written last: a folder with it is complete
  _draw(out / STRIP, found, strip, *pictures)
  found.save(out)
  return found, {ARRAY: found.vectors.shape}


def _json(value):
  array = np.asarray(value)
  return array.tolist() if array.ndim < 2 else {'shape': list(array.shape), 'true': int(array.sum())}


def _pictures(generator, found: Directions, latents, strip: Strip, on_progress: Report):
  """Strengths (K,), originals (N, h, w, 3) and edited images (N, directions, K, h, w, 3), computed one at a time."""
  mover = Mover(generator, found.space, found.layers)
  steps = [found.step(j) for j in range(min(SHOWN, len(found)))]

  def image(i: int, step: np.ndarray, alpha: float) -> np.ndarray:
    return np.asarray(mover.images(one_of(latents, i), step, alpha)[0], np.float32)

  alphas = strip.alphas
  if alphas is None:
    largest = visible_strength(lambda j, alpha: image(0, steps[j], alpha), len(steps))
    alphas = -largest, -largest / 2, largest / 2, largest
  samples = range(len(strip.seeds))
  total, originals, edited = len(samples) * len(steps), [], []
  for i in samples:
    originals.append(_reduced(image(i, steps[0], 0)))
    edited.append([])
    for j, step in enumerate(steps):
      edited[i].append([_reduced(image(i, step, alpha)) for alpha in alphas])
      if not np.isfinite(edited[i][j]).all():
        where = f'direction {j} of seed {strip.seeds[i]} is not finite'
        raise NonFiniteError('alpha', ','.join(map(str, alphas)), where, 'give a smaller one')
      on_progress('strip', i * len(steps) + j + 1, total)
  return np.asarray(alphas), np.stack(originals), np.array(edited)


def _draw(
  path: Path, found: Directions, strip: Strip, alphas: np.ndarray, originals: np.ndarray, edited: np.ndarray
) -> None:
  rows = 'all rows' if found.layers is None else f'rows {", ".join(map(str, found.layers))}'
  where = {'w': f'{rows} of w+', 'z': 'z', 's': 'styles'}[found.space]
  unit = {'length': 'lengths of a unit vector', 'sigma': 'standard deviations'}[found.unit]
  shown = edited.shape[1]
  strips.draw_grid(
    path,
    originals,
    edited,
    alphas.tolist(),
    [f'direction {j}' for j in range(shown)],
    names=[f'seed {seed}' for seed in strip.seeds],
    title=f'{found.method}: the first {shown} of {len(found)} directions, moving {where}',
    note=f'Strengths are {unit}.',
  )


def visible_strength(image: Callable[[int, float], np.ndarray], count: int) -> float:
  """The strength, to two digits, at which half of the directions change an image by `VISIBLE` or more.

  The strength doubles from 2^-6 until this change is reached, at most to `LARGEST`; then it is interpolated.

  Args:
    image: (direction, strength) to (h, w, channels).
  """
  original = image(0, 0.0)

  def change(alpha: float) -> float:
    return float(np.median([np.sqrt(np.mean((image(j, alpha) - original) ** 2)) for j in range(count)]))

  alpha, reached, before = 2.0**-6, 0.0, 0.0
  while alpha < LARGEST:
    before, reached = reached, change(alpha)
    if reached >= VISIBLE or not np.isfinite(reached):
      break
    alpha *= 2
  if reached >= VISIBLE > before:
    alpha *= 0.5 + 0.5 * (VISIBLE - before) / (reached - before)
  return float(f'{alpha:.2g}')


def _reduced(image: np.ndarray) -> np.ndarray:
  """The image (h, w, 3) reduced to at most TILE pixels a side."""
  size = reduced_size(image.shape[:2], TILE)
  if size == image.shape[:2]:
    return image
  down, across = (area_weights(a, b).astype(np.float32) for a, b in zip(image.shape[:2], size, strict=True))
  return np.einsum('ah,hwc,bw->abc', down, image, across, optimize=True)


def told(say: Callable[[str], None]) -> Report:
  """A report of progress in words, with the remaining time."""
  began: dict[str, tuple[float, int]] = {}

  def report(name: str, done: int, of: int) -> None:
    now = time.monotonic()
    started, first = began.setdefault(name, (now, done))
    text = f'{name}: {done} of {of}'
    if first < done < of:
      text += f', {(of - done) * (now - started) / (done - first):,.0f} s left'
    say(text)

  return report
