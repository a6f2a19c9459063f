"""The filtered leaky ReLU of StyleGAN3: up-sample, leaky ReLU, down-sample, with little aliasing, in plain XLA ops.

Up-sampling does not multiply by the inserted zeros, and interleaves samples only where needed: the samples of phase p
(positions p, p + up, ...) stay an array of their own, so that the strided reads of the down-sampling filter are
contiguous slices of these. Each pass is a sum of shifted slices, which XLA fuses into one vectorised loop; the barriers
keep it from fusing two passes, which would compute the first again for every tap of the second.

Measured on two CPU cores, up 2 and down 2 with 12 taps, (1, 36, 36, 512), (1, 148, 148, 512) and (1, 532, 532, 64) in
ms: this 13, 320, 300; interleaved phases 13, 340, 345 (and twice the time and memory of a gradient); one fusion of all
passes 3.4 times this at (1, 84, 84, 64); products with banded matrices 22, 1410, 4230; depthwise convolutions with
dilation 197 against 3.7 at (1, 84, 84, 64). Radial 12x12 down-sampling at (1, 36, 36, 512): slices in one loop 14, in
several 10 to 12, depthwise convolution 125, block-banded matrices 89.

On a CPU large maps are filtered sixteen channels at a time, so that nearly all reads and writes are to the cache. All
layers of StyleGAN3-R at 256 pixels take 760 ms so, 128 channels at a time 1600, all at once 1900; of -T at 1024 pixels
2020, and 3130 all at once. Some rows at a time are no faster.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from panda_jax.generators.layers import as_one
from panda_jax.generators.slide import slide

# On a CPU, maps that do not fit into the cache are filtered a few channels at a time, as many as fill a cache line.
CACHE, LINE = 1 << 20, 64  # bytes


def _kaiser(taps: int, width: float, rate: float) -> np.ndarray:
  """The Kaiser window for a transition band of `width` (Kaiser's formulas for attenuation and beta)."""
  attenuation = 2.285 * (taps - 1) * np.pi * width / (rate / 2) + 7.95
  if attenuation > 50:
    beta = 0.1102 * (attenuation - 8.7)
  else:
    beta = 0.5842 * max(attenuation - 21, 0) ** 0.4 + 0.07886 * max(attenuation - 21, 0)
  return np.kaiser(taps, beta)


def lowpass(taps: int, cutoff: float, width: float, rate: float, radial: bool = False) -> np.ndarray | None:
  """A low-pass filter of sum 1: windowed sinc (taps,), or windowed jinc (taps, taps) if radial; None for one tap.

  Only networks with random weights compute their filters; files contain theirs.

  Args:
    taps: length.
    cutoff: frequency where the pass band ends, in cycles per unit length.
    width: of the transition band.
    rate: samples per unit length.
    radial: whether to make it rotationally symmetric.

  Source: Karras et al. 2021, Alias-Free Generative Adversarial Networks, appendix C.
  """
  if taps == 1:
    return None
  x = (np.arange(taps) - (taps - 1) / 2) / rate
  window = _kaiser(taps, width, rate)
  if radial:
    from scipy import special  # only here: it takes long to import

    r = np.hypot(x[:, None], x[None, :])
    safe = np.where(r == 0, 1, r)
    h = np.where(r == 0, cutoff * np.pi * cutoff, cutoff * special.j1(2 * np.pi * cutoff * safe) / safe)
    h = h * np.outer(window, window)
  else:
    h = np.sinc(2 * cutoff * x) * window
  return h / h.sum()


def _along(taps: jax.Array, axis: int) -> jax.Array:
  """One-dimensional taps as a two-dimensional filter along axis 1 (height) or 2 (width)."""
  return taps.reshape((-1, 1) if axis == 1 else (1, -1))


def _up_phases(x: jax.Array, taps: jax.Array | None, up: int, padding: tuple[int, int], axis: int) -> list[jax.Array]:
  """The `up` phases of x up-sampled along an axis; sample o = up m + p of the result is phase p at m.

  The result is the correlation with the taps of x with `up` - 1 zeros inserted after each sample and `padding` zeros
  before and after (negative numbers crop); if `taps` is None, `up` is 1 and nothing is filtered. The phases are equally
  long, so the last ones may have one sample too many.
  """
  n, before = x.shape[axis], padding[0]
  T = 1 if taps is None else taps.shape[0]
  M = -(-(n * up + sum(padding) - T + 1) // up)
  phases = []
  for p in range(up):
    # Sample o is the sum of taps[t] x[(o + t - before) / up] over those t for which the division is exact.
    first = (before - p) % up
    shift, count = (p + first - before) // up, len(range(first, T, up))
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (-shift, shift + count - 1 + M - n, 0)  # negative numbers crop here too
    padded = lax.pad(x, jnp.zeros((), x.dtype), config)
    if taps is not None:
      size = (M, x.shape[2]) if axis == 1 else (x.shape[1], M)
      padded = slide(padded, _along(taps[first::up], axis), size)
    phases.append(padded)
  return phases


def _regrouped(phases: list[jax.Array], count: int, axis: int) -> list[jax.Array]:
  """The same samples, rearranged into another number of phases."""
  have = len(phases)
  if have == count:
    return phases
  if have % count == 0:  # phases r, r + count, ... are interleaved
    shape = list(phases[0].shape)
    shape[axis] *= have // count
    return [jnp.stack(phases[r::count], axis + 1).reshape(shape) for r in range(count)]
  if count % have == 0:  # each phase is split
    step = count // have
    return [lax.slice_in_dim(phases[r % have], r // have, None, stride=step, axis=axis) for r in range(count)]
  return _regrouped(_regrouped(phases, 1, axis), count, axis)


def _down(phases: list[jax.Array], taps: jax.Array, length: int, axis: int) -> jax.Array:
  """`length` samples of the correlation with the taps along an axis: every len(phases)-th one."""
  step, total = len(phases), None
  for r in range(min(step, taps.shape[0])):
    size = (length, phases[r].shape[2]) if axis == 1 else (phases[r].shape[1], length)
    term = slide(phases[r], _along(taps[r::step], axis), size)
    total = term if total is None else total + term
  return total


def _down_radial(phases: list[list[jax.Array]], taps: jax.Array, size: tuple[int, int]) -> jax.Array:
  """The same for a two-dimensional filter; phases[r][s] has the rows of phase r and the columns of phase s."""
  step, total = len(phases), None
  for r in range(min(step, taps.shape[0])):
    for s in range(min(step, taps.shape[1])):
      term = slide(phases[r][s], taps[r::step, s::step], size)
      # One loop per pair of phases: a single loop over all taps would read too many arrays at once.
      total = term if total is None else lax.optimization_barrier(total + term)
  return total


@as_one('up', 'down', 'padding', 'slope', 'gain', 'clamp')
def filtered_lrelu(
  x: jax.Array,
  up_filter: jax.Array | None,
  down_filter: jax.Array | None,
  *,
  up: int,
  down: int,
  padding: tuple[tuple[int, int], tuple[int, int]],
  slope: float,
  gain: float,
  clamp: float | None,
) -> jax.Array:
  """Up-samples, applies a leaky ReLU with gain and clamp, and down-samples.

  Args:
    x: (N, H, W, C), bias added.
    up_filter: (taps,) of sum 1 with at least `up` taps, applied as a true convolution; None if `up` is 1 and nothing
      is filtered on the way up.
    down_filter: (taps,), or (taps, taps) if radial; None if `down` is 1 and nothing is filtered.
    up: factor; the filter's gain is `up` per axis.
    down: factor.
    padding: zeros before and after the zero-filled rows, and the same for columns; negative numbers crop.
    slope: for negative values.
    gain: applied after the leaky ReLU.
    clamp: largest magnitude after the gain, or None.

  Returns:
    (N, H', W', C), H' = (H up + padding - taps up - taps down + 1) // down + 1, and W' likewise.

  Source: Karras et al. 2021, section 3.2 and appendix C; written as polyphase filters (derivation).
  """
  on_cpu = jax.default_backend() == 'cpu'
  dtype = jnp.promote_types(x.dtype, jnp.float32) if on_cpu else x.dtype  # arithmetic in 16 bits is slow on a CPU
  # After the flip, correlation with the taps is the true convolution.
  up_taps = None if up_filter is None else jnp.flip(up_filter).astype(dtype) * up
  down_taps = None if down_filter is None else jnp.flip(down_filter).astype(dtype)

  def activated(y):
    if slope != 1:
      y = jnp.where(y >= 0, y, y * slope)
    if gain != 1:
      y = y * gain
    return y if clamp is None else jnp.clip(y, -clamp, clamp)

  def filtered(x):
    return _filtered(x, up_taps, down_taps, activated, up, down, padding)

  wide = _cast(x, dtype)
  if on_cpu and math.prod(x.shape) * up * up * dtype.itemsize > CACHE:  # bytes at the leaky ReLU
    return _cast(_by_channels(filtered, wide, LINE // dtype.itemsize), x.dtype)
  return _cast(filtered(wide), x.dtype)


def _cast(x, dtype):
  """x in another type, computed once: not again for each tap that reads it."""
  return x if x.dtype == dtype else lax.optimization_barrier(x.astype(dtype))


def _filtered(x, up_taps, down_taps, activated, up, down, padding):
  lost = sum(taps.shape[0] - 1 for taps in (up_taps, down_taps) if taps is not None)
  size = tuple((n * up + sum(pads) - lost - 1) // down + 1 for n, pads in zip(x.shape[1:3], padding, strict=True))
  radial = down_taps is not None and down_taps.ndim == 2
  rows = lax.optimization_barrier(_up_phases(x, up_taps, up, padding[0], axis=1))
  grid = []  # per row phase: columns already down-sampled if the filter is separable, else the column phases
  for row in rows:
    columns = [activated(column) for column in _up_phases(row, up_taps, up, padding[1], axis=2)]
    columns = _regrouped(lax.optimization_barrier(columns), down, axis=2)
    if radial:
      grid.append(columns)
    elif down_taps is not None:
      grid.append(_down(columns, down_taps, size[1], axis=2))
    else:
      grid.append(lax.slice_in_dim(columns[0], 0, size[1], axis=2))
  if radial:
    by_column = [_regrouped([row[s] for row in grid], down, axis=1) for s in range(down)]
    return _down_radial([[column[r] for column in by_column] for r in range(down)], down_taps, size)
  phases = _regrouped(lax.optimization_barrier(grid), down, axis=1)
  if down_taps is not None:
    return _down(phases, down_taps, size[0], axis=1)
  return lax.slice_in_dim(phases[0], 0, size[0], axis=1)


def _by_channels(f: Callable, x: jax.Array, channels: int) -> jax.Array:
  """f(x) of maps (N, H, W, C), one sample and a few channels at a time."""
  N, H, W, C = x.shape
  channels = min(channels, C)
  groups = -(-C // channels)
  # The derivative computes f again, which takes less time and memory than to store what lies between the filters.
  f = jax.checkpoint(f, prevent_cse=False)

  def step(i, y):
    at = i // groups, 0, 0, jnp.minimum(i % groups * channels, C - channels)  # the last may overlap the one before
    part = lax.dynamic_slice(x, at, (1, H, W, channels))
    return lax.dynamic_update_slice(y, f(lax.optimization_barrier(part)), at)

  part = jax.eval_shape(f, jax.ShapeDtypeStruct((1, H, W, channels), x.dtype))
  return lax.fori_loop(0, N * groups, step, jnp.zeros((N, *part.shape[1:3], C), part.dtype))


def centred_padding(
  n: int, up: int, down: int, taps: tuple[int, int], conv_kernel: int, wanted: int
) -> tuple[int, int]:
  """The padding before and after with which a layer of n samples gives `wanted` ones, centred on the same point.

  The convolution before the filters has padding conv_kernel - 1. The division rounds down, also for negative totals.
  """
  total = (wanted - 1) * down + 1 - (n + conv_kernel - 1) * up + sum(taps) - 2
  before = (total + up) // 2
  return before, total - before
