"""Classes of other code: features that they lack, and their arguments. Shared by the exports of the dialects."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from panda_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Exported:
  """A generator in the form of a dialect.

  Attributes:
    tree: nested dicts of arrays, under the keys of the dialect's own code.
    arguments: of the class that loads them; the file does not contain them.
    notes: where that class differs from the generator.
  """

  tree: Mapping[str, object]
  arguments: Mapping[str, object]
  notes: list[str] = dataclasses.field(default_factory=list)


def check_needs(form: str, options: object, **allowed: tuple) -> None:
  """Raises InputError if an option has a value that the code of a format does not support.

  Args:
    form: of converters.dialects.FORMATS.
    options: of the generator.
    allowed: the values that the code supports, by the name of the option.
  """
  for name, values in allowed.items():
    value = getattr(options, name)
    if value not in values:
      raise InputError('--format', form, f'its code has no {name}={value}', 'give --format=safetensors')


def widths_by_size(form: str, widths: Sequence[int]) -> dict[int, int]:
  """{resolution: channels} from widths with two entries per resolution.

  Raises:
    InputError: the two differ, which no published code supports.
  """
  for first, second in zip(widths[::2], widths[1::2], strict=True):
    if first != second:
      raise InputError(
        '--format',
        form,
        f'its code has no {first} and {second} channels at one resolution',
        'give --format=safetensors',
      )
  return {4 * 2**k: width for k, width in enumerate(widths[::2])}


def channel_rule(found: Mapping[int, int], base: str, most: str) -> dict[str, object]:
  """The two arguments if the channels are min(base // resolution, most), as the codes have it; else the channels."""
  largest = max(found.values())
  product = next((size * width for size, width in found.items() if width < largest), largest * max(found))
  if all(min(product // size, largest) == width for size, width in found.items()):
    return {base: product, most: largest}
  return {'channels': dict(found)}


def rounded(form: str, table: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> list[str]:
  """A note if subtracting 1 and adding it again changes a number; numbers that came from such a file do not change.

  Args:
    form: of the file.
    table: {key: array minus 1}.
    before: {key: array}.
  """
  off = sum(int(np.count_nonzero(array + 1 != before[key])) for key, array in table.items())
  return [f'{off} biases of styles are rounded: {form} stores them less one'] * bool(off)


def unlike(options: object, *, clamps: bool, scaled_epsilon: bool) -> list[str]:
  """Notes on small differences between a code and a StyleGAN2 of another origin."""
  notes = []
  if options.clamp is not None and not clamps:  # type: ignore[attr-defined]
    notes.append(f'its code does not clamp; this network clamps at {options.clamp:g}, if activations go so far')  # type: ignore[attr-defined]
  if options.scaled_epsilon != scaled_epsilon:  # type: ignore[attr-defined]
    notes.append('its code adds the 1e-8 of demodulation elsewhere: about the last digit of float32')
  return notes
