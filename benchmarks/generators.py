"""Seconds and memory of the generators: one image and eight at a time, float32 and bfloat16, without compilation.

python -m benchmarks.generators [--set=bench|full] [--cases=stylegan2,...] [--batches=1,8] [--dtypes=float32,bfloat16]
python -m benchmarks.generators --reference=FOLDER [--reference_python=PYTHON] [--rounds=3] [--batches=1,2,4,8] [...]

Weights are random, which does not change the numbers. The set `bench` has 256 pixels (BigGAN of BigGAN-PyTorch: 128)
and the published widths for that size; `full` has the published full sizes. Yardsticks in the same process, on the same
device and threads: the rate of a large matrix product, and the time of an image's operations (as XLA counts them) at
that rate.
Every case runs in its own process, in large pages of memory as commands do (panda_jax/runtime/pages.py; without them:
GLIBC_TUNABLES=glibc.malloc.hugetlb=0), so that peak memory is its own: on a CPU that of the process minus that after
imports, on an accelerator that of the device. Prints a table and keeps every row in generators-SET.json.

With --reference, the yardstick is original PyTorch code in FOLDER, a clone of NVlabs/stylegan3, genforce/genforce or
ajbrock/BigGAN-PyTorch: the same sizes in float32, with as many threads and on the same device. Ours and theirs
alternate, each time in a process of its own, and the best of the rounds counts (benchmarks/originals.py, reference.py).
Prints another table and keeps its rows in reference-SET.json. Nothing else should run meanwhile.
"""

import dataclasses
import datetime
import json
import math
import os
import platform
import resource
import sys
import time
from pathlib import Path

from absl import app, flags

from benchmarks import originals, reference
from panda_jax.runtime import pages

SETS = ('bench', 'full')
CASES = {  # pixels of the longer side in each set; None if there is no other size
  'progan': (256, 1024),
  'stylegan': (256, 1024),
  'stylegan2': (256, 1024),
  'stylegan2-human': (None, 1024),
  'stylegan3-t': (256, 1024),
  'stylegan3-r': (256, 1024),
  'stylegan3-human': (None, 1024),
  'stylegan_xl': (256, 1024),
  'biggan': (256, 256),
  'biggan-plain': (128, 256),
  'r3gan': (256, 256),
}

_SET = flags.DEFINE_enum('set', 'bench', SETS, 'Which sizes.')
_CASES = flags.DEFINE_list('cases', list(CASES), f'Which of {", ".join(CASES)}.')
_BATCHES = flags.DEFINE_list('batches', None, 'Images at a time; by default 1,8, with --reference 1,2,4,8.')
_DTYPES = flags.DEFINE_list('dtypes', ['float32', 'bfloat16'], 'Of weights and computation.')
_SECONDS = flags.DEFINE_float('seconds', 5.0, 'Each measurement repeats its call for about so long, at least twice.')
_REFERENCE = flags.DEFINE_string('reference', None, f'Clone of {reference.CLONES}: each of its cases runs there too.')
_PYTHON = flags.DEFINE_string('reference_python', sys.executable, 'Python that has PyTorch and what the clone imports.')
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Times that ours and theirs run, with --reference.', lower_bound=1)
_OUT = flags.DEFINE_string('out', 'benchmarks/results', 'Folder of the JSON file.')
_ONE = flags.DEFINE_string('one', None, 'Used inside: run this case and print its JSON.')

PRODUCT = 2048  # side of the matrices of the yardstick


def widths(resolution: int, base: int, most: int = 512, per_block: int = 2) -> tuple[int, ...]:
  """min(base / r, most) channels, for two layers at each resolution."""
  sizes = [4 * 2**k for k in range(resolution.bit_length() - 3 + 1) if 4 * 2**k <= resolution]
  return tuple(min(base // r, most) for r in sizes for _ in range(per_block))


def options_of(case: str, resolution: int):
  """(family, options) of the published networks at a resolution."""
  from panda_jax.generators import biggan, stylegan3_geometry
  from panda_jax.generators.progan import ProGANOptions
  from panda_jax.generators.r3gan import R3GANOptions
  from panda_jax.generators.stylegan import StyleGANOptions
  from panda_jax.generators.stylegan2 import StyleGAN2Options

  mapping = (512,) * 8
  if case == 'progan':
    return case, ProGANOptions(resolution, widths(resolution, 16384), 512)
  if case == 'stylegan':
    return case, StyleGANOptions(resolution, widths(resolution, 16384), 512, 512, mapping)
  if case.startswith('stylegan2'):  # config-f at 1024; the 256 of the "auto" configuration has half the base
    channels = widths(resolution, 32768 if resolution == 1024 else 16384)
    start = (4, 2) if case.endswith('human') else (4, 4)
    return 'stylegan2', StyleGAN2Options(resolution, channels, 512, 512, mapping, clamp=256.0, start=start)
  if case == 'biggan':
    return case, biggan.deep_options(256)
  if case == 'biggan-plain':
    return 'biggan', biggan.plain_options(resolution)
  if case == 'r3gan':  # of FFHQ
    channels = (768, 768, 768, 768, 384, 192, 96)
    inner = tuple(2 * width for width in channels)
    return case, R3GANOptions(channels, (2,) * 7, inner, (96, 96, 96, 96, 48, 24, 12), 64)
  if case == 'stylegan_xl':
    return case, stylegan_xl_options(resolution)
  if case == 'stylegan3-human':
    return 'stylegan3', dataclasses.replace(stylegan3_geometry.published_options(resolution, 'r'), square=False)
  return 'stylegan3', stylegan3_geometry.published_options(resolution, case[-1])


def stylegan_xl_options(resolution: int):
  """The options for ImageNet: a stem of 16 pixels, and a head of seven layers for each doubling, five for the last.

  Widths are the defaults of the training script.
  """
  from panda_jax.generators.stylegan_xl import StyleGANXLOptions

  stem = _xl_layers(10, 16, 2, 2**2.1, None)
  kept, size = stem[:-3], 16
  while size < resolution:
    size *= 2
    _, _, rate, cutoff, width, *_ = kept[-1]
    head = _xl_layers(5 if size >= 1024 else 7, size, cutoff, cutoff + width, rate)
    kept, last = [*kept, *head[:-3]], head[-3:]
  return StyleGANXLOptions(
    z_dim=64,
    w_dim=512,
    num_classes=1000,
    embed_dim=320,
    layers=(*kept, *last),
    mapping_layers=2,
    mapping_rate=0.01,
    output_scale=0.25,
    filter_size=6,
    lrelu_upsampling=2,
  )


def _xl_layers(count: int, size: int, cutoff: float, stopband: float, rate: int | None) -> list[tuple]:
  """The layers of a stem or a head as in StyleGANXLOptions; the last one makes the image.

  Args:
    count: number of layers before the last.
    size: pixels of the image.
    cutoff, stopband: frequencies at its beginning.
    rate: sampling rate of the first layer of a head; None for a stem, whose frequencies give the rate.
  """
  layers = []
  for i in range(count + 1):
    share = min(i / (count - 2), 1)
    here = cutoff * (size / 2 / cutoff) ** share
    stop = stopband * (size / 2 * 2**0.3 / stopband) ** share
    sampled = rate if rate and not i else 2 ** math.ceil(math.log2(min(2 * stop, size)))
    channels = 3 if i == count else round(min(65536 / 2 / here, 1024))
    pixels = size if i >= count - 1 else sampled + 20
    kernel = 1 if i == count else 3
    layers.append((channels, pixels, sampled, here, max(stop, sampled / 2) - here, kernel, False, 256.0))
  return layers


def peak_bytes() -> int:
  """Peak memory so far: of the accelerator if there is one, else of this process."""
  import jax

  stats = jax.devices()[0].memory_stats()
  if stats:
    return stats['peak_bytes_in_use']
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def product_rate(dtype: str) -> float:
  """Operations per second of a large matrix product, the best of several."""
  import jax
  import jax.numpy as jnp

  a = jnp.ones((PRODUCT, PRODUCT), dtype)
  program = jax.jit(lambda a: jnp.matmul(a, a, precision='highest')).lower(a).compile()
  jax.block_until_ready(program(a))
  best = float('inf')
  for _ in range(5):
    began = time.perf_counter()
    jax.block_until_ready(program(a))
    best = min(best, time.perf_counter() - began)
  return 2 * PRODUCT**3 / best


def run_one(text: str) -> dict:
  """One case in this process: compile, run, repeat."""
  case, resolution, batch, dtype, seconds = json.loads(text)
  import jax
  import jax.numpy as jnp
  import numpy as np
  from flax import nnx

  from panda_jax.generators import filters, registry

  family, options = options_of(case, resolution)
  imported = peak_bytes() if jax.devices()[0].platform == 'cpu' else 0
  rate = product_rate(dtype)
  generator = registry.create(family, options)
  graphdef, state = nnx.split(generator)
  weights = int(sum(x.size for x in jax.tree.leaves(nnx.state(generator, nnx.Param))))
  del generator
  state = jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)
  z = np.random.RandomState(0).randn(batch, options.z_dim).astype(np.float32)
  classes = options.num_classes
  labels = jnp.zeros(batch, jnp.int32) if classes else None

  def images(state, z):
    generator = nnx.merge(graphdef, state)
    return generator(generator.map(z, labels))

  cache, filters.CACHE = filters.CACHE, math.inf  # XLA counts the operations of a loop once
  operations = float(jax.jit(images).lower(state, z).cost_analysis()['flops'])
  filters.CACHE = cache
  jax.clear_caches()
  began = time.perf_counter()
  program = jax.jit(images).lower(state, z).compile()
  compiled = time.perf_counter() - began
  times = []
  while len(times) < 2 or (sum(times) < seconds and len(times) < 50):
    began = time.perf_counter()
    result = jax.block_until_ready(program(state, z))
    times.append(time.perf_counter() - began)
  best = min(times)
  return {
    'case': case,
    'resolution': resolution,
    'batch': batch,
    'dtype': dtype,
    'shape': list(result.shape),
    'finite': bool(np.isfinite(np.asarray(result, np.float32)).all()),
    'parameters': int(sum(x.size for x in jax.tree.leaves(state))),
    'weights': weights,
    'compile_seconds': compiled,
    'first_seconds': times[0],
    'seconds': best,
    'ms_per_image': 1e3 * best / batch,
    'images_per_second': batch / best,
    'peak_bytes': peak_bytes() - imported,
    'operations': operations,
    'product_rate': rate,
    'share_of_product_rate': operations / rate / best,
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
  }


def ours(case: str, resolution: int, batch: int, dtype: str, seconds: float) -> dict:
  """`run_one` in a process of its own."""
  asked = json.dumps([case, resolution, batch, dtype, seconds])
  return originals.result([sys.executable, '-m', 'benchmarks.generators', f'--one={asked}'])


def keep(path: Path, row: dict) -> None:
  """Adds a row to the file; it replaces one of the same case, type, batch and device."""
  names = ('case', 'resolution', 'dtype', 'batch', 'device')
  rows = json.loads(path.read_text()) if path.exists() else []
  rows = [r for r in rows if any(r[name] != row[name] for name in names)] + [row]
  path.write_text(json.dumps(rows, indent=1, allow_nan=False) + '\n')


def sized(cases: list[str], which: str) -> list[tuple[str, int]]:
  """(case, resolution) of those that a set has."""
  sizes = [(case, CASES[case][SETS.index(which)]) for case in cases]
  return [(case, resolution) for case, resolution in sizes if resolution is not None]


def batches_of(given: list[str] | None, default: tuple[int, ...]) -> list[int]:
  """The numbers of --batches."""
  for text in given or ():
    if not text.isdecimal() or not int(text):
      raise app.UsageError(f'--batches: {text!r} is not a number of images; give numbers such as 1,8')
  return [int(text) for text in given] if given else list(default)


def compare(out: Path) -> int:
  """Ours and theirs in turn; the number of rows that failed."""
  if flags.FLAGS['dtypes'].present and _DTYPES.value != ['float32']:
    raise app.UsageError(f'--dtypes={",".join(_DTYPES.value)}: --reference compares float32; leave --dtypes out')
  batches = batches_of(_BATCHES.value, (1, 2, 4, 8))
  clone = originals.Clone.checked(Path(_REFERENCE.value), _PYTHON.value)
  cases = clone.chosen(_CASES.value if flags.FLAGS['cases'].present else None)
  out.mkdir(parents=True, exist_ok=True)
  path = out / f'reference-{_SET.value}.json'
  runs = [
    originals.Run(case, resolution, options_of(case, resolution)[1], batch)
    for case, resolution in sized(cases, _SET.value)
    for batch in batches
  ]
  failed = originals.compare(
    clone,
    runs,
    lambda run: ours(run.case, run.resolution, run.batch, 'float32', _SECONDS.value),
    seconds=_SECONDS.value,
    rounds=_ROUNDS.value,
    keep=lambda row: keep(path, row),
  )
  if failed < len(runs):
    print(f'wrote {path}')
  return failed


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  if _ONE.value:
    print(json.dumps(run_one(_ONE.value)))
    return 0
  unknown = set(_CASES.value) - set(CASES)
  if unknown:
    raise app.UsageError(f'--cases: unknown {", ".join(sorted(unknown))}; give any of {", ".join(CASES)}')
  out = Path(_OUT.value)
  if _REFERENCE.value is not None:
    return compare(out)
  batches = batches_of(_BATCHES.value, (1, 8))
  out.mkdir(parents=True, exist_ok=True)
  path = out / f'generators-{_SET.value}.json'
  machine = {
    'date': datetime.date.today().isoformat(),
    'python': platform.python_version(),
    'cpus': os.cpu_count(),
  }
  print(
    f'{"case":22} {"dtype":9} {"batch":>5} {"compile s":>9} {"ms/image":>9} {"images/s":>9} {"peak MB":>8} {"share":>6}'
  )
  for case, resolution in sized(_CASES.value, _SET.value):
    for dtype in _DTYPES.value:
      for batch in batches:
        try:
          row = ours(case, resolution, batch, dtype, _SECONDS.value)
        except originals.Failed as error:
          print(f'{case}-{resolution:<8} {dtype:9} {batch:5}  failed: {error}', flush=True)
          continue
        keep(path, machine | row)
        print(
          f'{case + "-" + str(resolution):22} {dtype:9} {batch:5} {row["compile_seconds"]:9.1f} '
          f'{row["ms_per_image"]:9.1f} {row["images_per_second"]:9.2f} {row["peak_bytes"] / 1e6:8.0f} '
          f'{row["share_of_product_rate"]:6.0%}',
          flush=True,
        )
  print(f'wrote {path}')
  return 0


if __name__ == '__main__':
  pages.ask()  # for the processes of cases too
  app.run(main)
