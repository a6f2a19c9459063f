"""Explore fits in the browser.

python -m panda_jax.app --workdir=runs/cats64                    on http://127.0.0.1:7860/
python -m panda_jax.app --workdir runs/cats64 runs/other         a choice between fits, on the page
python -m panda_jax.app --workdir=DIR --port=8000 --generator=DIR --host=0.0.0.0

Needs the extra: pip install 'panda-jax[app]'. On another host than 127.0.0.1 anybody who reaches it can use it.
"""

import argparse
import sys

from panda_jax.errors import InputError


class _Parser(argparse.ArgumentParser):
  def error(self, message: str):
    raise InputError('flags', ' '.join(sys.argv[1:]), message, '--help lists the flags')


def parsed(argv: list[str]) -> argparse.Namespace:
  """The flags.

  Raises:
    InputError: unknown, malformed, or --workdir is missing.
  """
  parser = _Parser('python -m panda_jax.app', description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  workdirs = {'nargs': '+', 'action': 'extend', 'required': True, 'metavar': 'DIR'}
  parser.add_argument('--workdir', help='of a finished fit through a generator, one or more', **workdirs)
  parser.add_argument('--generator', help='where it is now, if it has moved')
  parser.add_argument('--host', default='127.0.0.1', help='address to listen on')
  parser.add_argument('--port', type=int, default=7860, help='0 takes any that is free')
  return parser.parse_args(argv)


def main(argv: list[str]) -> int:
  try:
    flags = parsed(argv)
    from panda_jax.app.fits import Fits
    from panda_jax.app.server import serve
    from panda_jax.opened import open_workdir

    if flags.generator and len(flags.workdir) > 1:
      raise InputError('generator', flags.generator, 'given for several fits', 'give one --workdir')
    serve(Fits([open_workdir(folder, flags.generator) for folder in flags.workdir]), flags.host, flags.port)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    pass
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
