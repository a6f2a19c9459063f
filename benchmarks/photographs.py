"""From a photograph's file to its edited picture, as in the explorer: read, inverted, edited, and written whole.

    python -m benchmarks.photographs --workdir=DIR      a minute on two cores

The photographs are those of docs/photographs, and the first one again with 12 megapixels. Yardstick: the same with the
most evaluations that `invert` allows. Everything is compiled before. Prints seconds of the clock and of the processor,
and PSNR; writes photographs-NAME.json.
"""

import base64
import io
import statistics
import time
from pathlib import Path

from absl import app, flags
from PIL import Image

from benchmarks.machine import machine, written
from panda_jax.app import photographs
from panda_jax.app.choices import Choice
from panda_jax.app.engine import Engine
from panda_jax.editing.zoo import Spec
from panda_jax.inversion.invert import EVALUATIONS
from panda_jax.workdir.finished_fit import open_workdir

_WORKDIR = flags.DEFINE_string('workdir', '', 'Of a finished fit through a generator.')
_OUT = flags.DEFINE_string('out', 'benchmarks/results', 'Folder of the JSON file.')

LARGE = 4000, 3000  # pixels


def files() -> dict[str, bytes]:
  """{name: content}."""
  found = {path.name: path.read_bytes() for path in sorted(Path('docs/photographs').glob('*.jpg'))}
  buffer = io.BytesIO()
  Image.open(io.BytesIO(next(iter(found.values())))).resize(LARGE, Image.Resampling.BICUBIC).save(buffer, 'JPEG')
  return found | {'large.jpg': buffer.getvalue()}


def measured(engine: Engine, content: bytes) -> dict[str, float]:
  """Seconds until the edited picture and until the whole photograph are ready; PSNR."""
  sent = {'name': 'x.jpg', 'content': base64.b64encode(content).decode(), 'count': 1}
  clock, processor = time.perf_counter(), time.process_time()
  upload = engine.photographs.shelf.put(photographs.upload_of(sent), len(content))
  key = engine.photographs.inverted(upload, '', '')
  term = Spec((engine.parts[0],), engine.appearances[0], 1.0)
  choice = Choice((engine.first_seed,), (term,), photograph=key)
  engine.edited(choice)
  edited = time.perf_counter() - clock, time.process_time() - processor
  engine.whole(choice)
  return {
    'seconds': edited[0],
    'processor_seconds': edited[1],
    'whole_processor_seconds': time.process_time() - processor - edited[1],
    'psnr_db': float(engine.photographs.held(key).inversion.psnr[0]),
  }


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  engine, given = Engine(open_workdir(_WORKDIR.value)), files()
  engine.warm()
  engine.prepare()
  record = machine() | {'fit': Path(_WORKDIR.value).resolve().name, 'photographs': list(given)}
  for name, evaluations in (('explorer', photographs.EVALUATIONS), ('invert', EVALUATIONS)):
    engine.photographs._inverter.evaluations = evaluations
    rows = [measured(engine, content) for content in given.values()]
    record[name] = {'evaluations': evaluations} | {key: [round(row[key], 3) for row in rows] for key in rows[0]}
    small = {key: [row[key] for row in rows[:-1]] for key in rows[0]}
    told = ', '.join(f'{key} {statistics.median(values):.2f} (to {max(values):.2f})' for key, values in small.items())
    print(f'{name}, {evaluations} evaluations: medians {told}', flush=True)
    print(f'  {LARGE[0]}x{LARGE[1]}: {", ".join(f"{key} {value:.2f}" for key, value in rows[-1].items())}', flush=True)
  path = written(record, Path(_OUT.value) / f'photographs-{record["fit"]}.json')
  print(f'wrote {path}')


if __name__ == '__main__':
  app.run(main)
