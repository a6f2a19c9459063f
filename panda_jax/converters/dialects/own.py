"""Our own safetensors, for any family: arrays under the generator's names, and its options as a text beside them."""

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.export import METADATA, VERSION
from panda_jax.converters.networks import unsaid
from panda_jax.converters.tables import chosen_options, fits
from panda_jax.errors import InputError, brief, described
from panda_jax.files.records import parsed_json
from panda_jax.generators import bounds, registry

NAME = 'panda-jax'


def recognise(checkpoint: Checkpoint) -> str | None:
  """The family of a file that `panda-jax export --format=safetensors` wrote, None for another file.

  Raises:
    InputError: it is damaged, or of a later version.
  """
  return _told(checkpoint)['family'] if METADATA in checkpoint.metadata else None


def convert(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  """The arrays and options of a file that `panda-jax export --format=safetensors` wrote.

  Raises:
    InputError: it is damaged; or any --option, since there are none.
  """
  chosen_options(given, {})
  told, problems, options = _told(checkpoint), [], None
  try:
    options = registry.options_from_json(told['family'], told['options'])
    bounds.check_stored(options, len(checkpoint.tree))
  except InputError as error:
    problems.append(f'{error.argument}={brief(described(error.value), 60)}: {error.problem}')
  if options is not None and not fits(options, problems):
    options = None
  names = {name: name for name in checkpoint.tree}
  notes = unsaid('the file does not say whether its weights are averaged', weights)
  return Conversion(told['family'], NAME, options, dict(checkpoint.tree), names, problems=problems, notes=notes)


def _told(checkpoint: Checkpoint) -> dict:
  text = checkpoint.metadata[METADATA]
  try:
    told = parsed_json(text, {'version': int, 'family': str, 'options': dict})
  except ValueError as error:
    raise InputError(
      'source', checkpoint.path, f'its text {METADATA} is damaged: {error}', 'export or copy it again'
    ) from error
  if told['version'] != VERSION:
    problem = f'it is of version {told["version"]}, not {VERSION}'
    raise InputError('source', checkpoint.path, problem, 'use the version of panda-jax that wrote it')
  return told
