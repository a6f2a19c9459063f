"""Checks of features that a user passes: shapes, types, grids and layouts."""

import ml_dtypes
import numpy as np

from panda_jax.errors import InputError

FLOATS = ('float16', 'bfloat16', 'float32', 'float64')
LAYOUTS = ('NHWC', 'NCHW')


def readable_dtype(dtype: np.dtype, argument: str) -> np.dtype:
  """The dtype to read with. numpy stores bfloat16 as two opaque bytes, so those are read as bfloat16."""
  dtype = np.dtype(dtype)
  if dtype.kind == 'V' and dtype.itemsize == 2 and dtype.names is None:
    return np.dtype(ml_dtypes.bfloat16)
  if dtype.name in FLOATS or dtype.kind in 'iu':
    return dtype
  remedy = f'save them as one of {", ".join(FLOATS)}, or as whole numbers'
  raise InputError(argument, dtype.name, 'features must be real numbers', remedy)


def widened(dtype: np.dtype) -> np.dtype:
  """The dtype of samples: whole numbers become the floating-point type that holds them exactly (up to 2^53)."""
  if dtype.kind not in 'iu':
    return dtype
  return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def checked_grid(grid) -> tuple[int, int] | None:
  """(H, W), or None if no grid is given.

  Raises:
    InputError: it is not two positive whole numbers.
  """
  if grid is None:
    return None
  numbers = list(grid) if hasattr(grid, '__len__') and not isinstance(grid, str) and np.ndim(grid) else [grid]
  whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in numbers)
  if len(numbers) != 2 or not whole or min(numbers) < 1:
    raise InputError('grid', grid, 'it is not two positive whole numbers', 'give (H, W), such as (8, 8)')
  return int(numbers[0]), int(numbers[1])


def checked_layout(layout: str | None) -> bool:
  """Whether features are channels first.

  Raises:
    InputError: there is no such layout.
  """
  if layout is not None and layout not in LAYOUTS:
    raise InputError('layout', layout, 'unknown', f'give one of {", ".join(LAYOUTS)}')
  return layout == 'NCHW'


def looks_channels_first(shape: tuple[int, ...]) -> bool:
  """Whether (N, d1, d2, d3) is probably (N, C, H, W): the last two axes are equal, and the one before them differs."""
  return len(shape) == 4 and shape[2] == shape[3] != shape[1]


def notes(shape: tuple[int, ...], grid: tuple[int, int] | None, layout: str | None) -> tuple[str, ...]:
  """What the user should check; empty if the layout or the grid was given."""
  if layout is not None or grid is not None or not looks_channels_first(shape):
    return ()
  return (
    f'features of shape {"x".join(map(str, shape))} look like channels first: if they are, give layout NCHW, or '
    'features.transpose(0, 2, 3, 1); if not, layout NHWC says so',
  )


def checked_shape(
  shape: tuple[int, ...], grid: tuple[int, int] | None, argument: str, first: bool = False
) -> tuple[int, int, int, int]:
  """(N, H, W, C) from a shape; (N, S, C) needs the grid. `first`: channels come first, (N, C, H, W) or (N, C, S)."""
  text = 'x'.join(map(str, shape))
  whole, flat = ('(N, C, H, W), channels first', '(N, C, S)') if first else ('(N, H, W, C), channels last', '(N, S, C)')
  if len(shape) not in (3, 4):
    one = ', features[None] for one sample' if len(shape) == 2 else ''
    raise InputError(
      argument, f'shape {text}', f'features have {len(shape)} dimensions', f'give {whole}, or {flat} with a grid{one}'
    )
  if 0 in shape:
    raise InputError(argument, f'shape {text}', 'it is empty', 'give at least one sample, position and channel')
  # If the other layout fits the given grid, the layout is the error, not the grid.
  other = "'NHWC'" if first else "'NCHW'"
  if len(shape) == 4:
    N, H, W, C = (shape[0], *shape[2:], shape[1]) if first else shape
    if grid is not None and grid != (H, W):
      turned = grid == (shape[1:3] if first else shape[2:])
      remedy = f'give layout={other}' if turned else 'leave the grid out'
      raise InputError('grid', f'{grid[0]},{grid[1]}', f'the features have the grid {H},{W}', remedy)
    return N, H, W, C
  S, C = (shape[2], shape[1]) if first else shape[1:]
  if grid is None:
    remedy = f'give grid=H,W with H*W={S}, or features[None] where this is one map'
    raise InputError(argument, f'shape {text}', 'the grid of flattened positions is not known', remedy)
  if grid[0] * grid[1] != S:
    remedy = f'give layout={other}' if grid[0] * grid[1] == C else 'give H,W whose product is that'
    raise InputError('grid', f'{grid[0]},{grid[1]}', f'the features have {S} positions', remedy)
  return shape[0], *grid, C


def as_array(features, argument: str = 'features') -> np.ndarray:
  """A numpy array of anything that numpy can view, such as an array of JAX or PyTorch.

  Raises:
    InputError: numpy cannot.
  """
  if np.ma.is_masked(features):
    raise InputError(argument, 'masked array', 'entries that are masked have no value', 'fill them, or leave them out')
  try:
    return np.asarray(features)
  except Exception as error:  # of other libraries
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise InputError(
      argument, type(features).__name__, f'it cannot be made an array ({said[:80]})', 'give a numpy array'
    ) from error


def checked_samples(samples, available):
  if samples is None:
    return available
  if isinstance(samples, bool) or not isinstance(samples, int | np.integer):
    raise InputError('samples', samples, 'it is not a whole number', f'give a number from 1 to {available}')
  if samples < 1 or (samples > available):
    raise InputError('samples', samples, f'{available} are there', 'give a number from 1 to that, or leave it out')
  return samples


def stacked(maps: list | tuple, grid: tuple[int, int] | None) -> np.ndarray | None:
  """A list of single maps of one shape, (H, W, C) or (S, C) with a grid, as one array; None for a list of batches.

  Raises:
    InputError: maps of different shapes.
  """
  first = as_array(maps[0]) if len(maps) else np.zeros(())
  if first.ndim != (3 if grid is None else 2):
    return None
  arrays = [first, *map(as_array, maps[1:])]
  for number, array in enumerate(arrays):
    if array.shape != first.shape:
      found, wanted = ('x'.join(map(str, shape)) for shape in (array.shape, first.shape))
      problem = f'the first has shape {wanted}'
      raise InputError('features', f'map {number} of shape {found}', problem, 'give maps of one shape')
  return np.stack(arrays)
