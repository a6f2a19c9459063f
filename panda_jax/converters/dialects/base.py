"""The definition of a dialect, and the choice among the dialects of a family."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint


class Dialect(NamedTuple):
  """A dialect: the code that wrote a checkpoint.

  Attributes:
    recognise: whether a checkpoint is of this dialect; any value, used as a condition.
    convert: makes a Conversion from a checkpoint, 'ema' or 'raw', and the user's --option values.
    files: the files that users have of it.
    checked: the outputs with which conversions were compared.
    options: parsers of the --option values that it accepts, by name.
  """

  recognise: Callable[[Checkpoint], object]
  convert: Callable[[Checkpoint, str, dict[str, str]], Conversion]
  files: str
  checked: str
  options: Mapping[str, Callable[[str, str], object]] = {}


class Dialects(dict[str, Dialect]):
  """The dialects of a family, by name, in the order in which they are tried."""

  def recognise(self, checkpoint: Checkpoint) -> str | None:
    """The name of the dialect of a checkpoint, None if there is none."""
    return next((name for name, dialect in self.items() if dialect.recognise(checkpoint)), None)

  def convert(self, checkpoint: Checkpoint, weights: str = 'ema', options: dict[str, str] | None = None) -> Conversion:
    """The arrays and options of a generator.

    Args:
      checkpoint: of one of the dialects.
      weights: 'ema', the averaged ones if there are any, or 'raw'.
      options: the user's --option values, among those of the dialect.

    Raises:
      InputError: an unknown option; weights that the file does not have.
    """
    return self[self.recognise(checkpoint)].convert(checkpoint, weights, options or {})
