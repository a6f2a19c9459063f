"""Commands of panda-jax: `python run.py COMMAND --flag=value ...`. Flags and configs here, the work in the library."""

import time

STARTED = time.perf_counter()

import difflib  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from absl import flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from panda_jax.clock import Clock  # noqa: E402
from panda_jax.config import default_config  # noqa: E402
from panda_jax.errors import InputError, Interrupted  # noqa: E402
from panda_jax.workdir import fit_into  # noqa: E402

HERE = Path(__file__).parent

_CONFIG = config_flags.DEFINE_config_file('config', str(HERE / 'configs' / 'default.py'), 'Configuration file.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for results and checkpoints.')
_OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Drop what an earlier fit left in the workdir.')
_PUBLISHED = flags.DEFINE_string(
  'published', None, "Also write the authors' Uc-name_*.npy, Us-name_*.npy, by this name."
)
# These set the configuration's key of the same name.
flags.DEFINE_string('features', None, 'Feature maps, a .npy file (N, H, W, C), or (N, S, C) with --grid.')
flags.DEFINE_string('grid', None, 'H,W of flattened positions.')
flags.DEFINE_integer('layer', None, 'Layer of the features, kept in the provenance.')
flags.DEFINE_integer('samples', None, 'Use only the first so many samples.')
flags.DEFINE_integer('parts', None, 'R_S, how many parts.')
flags.DEFINE_integer('appearances', None, 'R_C, how many appearances; all channels if left out.')
flags.DEFINE_integer('seed', None, 'Seed of the restarts.')
SHORT = ('features', 'grid', 'layer', 'samples', 'parts', 'appearances', 'seed')


def nearest(word: str, words) -> str:
  found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
  return f'did you mean {found[0]}?' if found else f'give one of {", ".join(sorted(words))}'


def fit() -> None:
  """python run.py fit --features=FILE.npy --parts=8 --workdir=DIR"""
  if not _WORKDIR.value:
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR')
  config = _CONFIG.value
  for name in SHORT:
    if flags.FLAGS[name].present:
      config[name] = flags.FLAGS[name].value
  clock = Clock(STARTED)
  fit_into(Path(_WORKDIR.value), config, overwrite=_OVERWRITE.value, published=_PUBLISHED.value, clock=clock)


COMMANDS = {'fit': fit}


def check_config_keys(arguments: list[str]) -> None:
  """A wrong key, told before anything is read, with the nearest right one."""
  known = default_config().keys()
  for argument in arguments:
    if argument.startswith(('--config.', '-config.')):
      key = argument.lstrip('-')[len('config.') :].split('=')[0]
      if key not in known:
        raise InputError(f'config.{key}', argument.partition('=')[2], 'there is no such key', nearest(key, known))


def parse(argv: list[str]) -> str:
  """Reads flags and returns the command."""
  if len(argv) < 2 or argv[1].startswith('-'):
    raise InputError('command', argv[1] if len(argv) > 1 else None, 'not given', f'give one of {", ".join(COMMANDS)}')
  if argv[1] not in COMMANDS:
    raise InputError('command', argv[1], 'unknown', nearest(argv[1], COMMANDS))
  check_config_keys(argv[2:])
  try:
    rest = flags.FLAGS([argv[0], *argv[2:]])
  except flags.UnrecognizedFlagError as error:
    raise InputError(
      f'--{error.flagname}', error.flagvalue, 'there is no such flag', nearest(error.flagname, flags.FLAGS)
    ) from error
  except (flags.Error, ValueError, TypeError, AttributeError, KeyError, OSError, SyntaxError) as error:
    raise InputError('flags', ' '.join(argv[2:]), str(error), 'see README.md for the flags of each command') from error
  if len(rest) > 1:
    raise InputError('argument', rest[1], 'not a flag', 'write --name=value')
  return argv[1]


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.ERROR)
  try:
    COMMANDS[parse(argv)]()
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except Interrupted:
    print('stopped by SIGTERM; the state is saved, and the same command goes on from it', file=sys.stderr)
    return 143
  except KeyboardInterrupt:
    print('stopped; the same command goes on from the last checkpoint', file=sys.stderr)
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
