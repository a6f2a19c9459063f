"""report.html: everything about one workdir on a page that needs no other file and no network."""

import html
import json
from pathlib import Path

from panda_jax.errors import InputError
from panda_jax.factors import write_atomically


def write_report(workdir: str | Path) -> Path:
  """Writes report.html into a workdir and returns its path.

  Raises:
    InputError: there is no finished fit in it.
  """
  workdir = Path(workdir)
  if not (workdir / 'summary.json').exists():
    raise InputError('workdir', workdir, 'there is no finished fit in it', 'run `python run.py fit` first')
  summary = json.loads((workdir / 'summary.json').read_text())
  body = html.escape(json.dumps(summary, indent=2))
  path = workdir / 'report.html'
  write_atomically(path, f'<!doctype html><meta charset="utf-8"><pre>{body}</pre>'.encode())
  return path
