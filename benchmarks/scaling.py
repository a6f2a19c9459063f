"""Time and memory of a fit against sizes, simulated devices and processes; the model of docs/explanation/cost.md.

python -m benchmarks.scaling --out=scaling.json            an hour on two quiet cores; --cases=N,S picks some sweeps
python -m benchmarks.scaling --model [--constants=scaling.json]

Each case runs in its own process, so that its peak memory is its own. Features are computed from a number, at the speed
of memory, so that a million samples need no disk. The yardstick is the model with constants measured on this machine.
"""

import datetime
import json
import math
import os
import platform
import re
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import model
from panda_jax.features.sharding import AXIS, data_mesh
from panda_jax.features.sources import FeatureSource, limited
from panda_jax.runtime.clock import Clock, compiled_programs
from panda_jax.runtime.environment import versions
from panda_jax.solver.fit import fit
from panda_jax.solver.passes import over_mesh
from tests.processes import ended, free_port, start

BASE = {'N': 10_000, 'S': 64, 'C': 32, 'R_S': 8, 'R_C': None, 'store': 'auto', 'devices': 1, 'processes': 1}
SWEEPS = {
  'N': [{'N': n, 'store': 'source'} for n in (10**3, 10**4, 10**5, 10**6)],
  'S': [{'N': 1000, 'S': s} for s in (16, 64, 256, 1024)],
  'C': [{'N': 1000, 'C': c} for c in (32, 128, 512)],
  'R_S': [{'R_S': r} for r in (4, 8, 16, 32)],
  'R_C': [{'R_C': r} for r in (4, 8, 16, 32)],
  'devices': [{'devices': d} for d in (1, 2, 4, 8)],
  'processes': [{'processes': p} for p in (1, 2)],
}
POOL = 2048  # different fields; samples are scaled copies of them


class Synthetic(FeatureSource):
  """Smooth fields of a pool, with a scale for each sample: as fast to make as to copy."""

  kind = 'synthetic'
  defined = True

  def __init__(self, N: int, S: int, C: int, seed: int = 0):
    side = int(np.sqrt(S))
    self.samples, self.grid, self.channels, self.dtype = N, (side, S // side), C, np.dtype(np.float32)
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in self.grid), indexing='ij')
    centres = rng.uniform(0, 1, (12, 2))
    bumps = np.exp(-((y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2) / 0.02).reshape(S, 12)
    strength = rng.uniform(0, 2, (POOL, 12)).astype(np.float32)
    fibres = rng.standard_normal((12, C))
    self._pool = np.empty((POOL, S, C), np.float32)
    for first in range(0, POOL, 64):  # a few at a time: temporaries of the whole pool would hide the fit's peak
      raw = np.einsum('sb,nb,bc->nsc', bumps, strength[first : first + 64], fibres, optimize=True).astype(np.float32)
      noise = 0.05 * rng.standard_normal(raw.shape, np.float32)
      self._pool[first : first + 64] = np.where(raw > 0, raw, 0.2 * raw) + noise
    self._first = 0

  def digest(self):
    digest = super().digest()
    digest.update(f'{self.samples}'.encode())
    return digest

  def part(self, first, last):
    return limited(self, last - first, _first=self._first + first)

  def take(self, indices):
    i = indices + self._first
    samples = self._pool[i * 997 % POOL]
    samples *= (1 + i % 101 / 100).astype(np.float32)[:, None, None]  # in place: new pages cost most
    return samples

  def blocks(self, size):
    for first in range(0, self.samples, size):
      yield self.take(np.arange(first, min(first + size, self.samples)))


def peak_bytes() -> int:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def numbers_sent() -> dict[str, list[int]]:
  """For each compiled program of a fit that sends data: the size of each of its all-reduces."""
  found = {}
  for name, compiled in compiled_programs():
    results = re.findall(r'= (.*?) all-reduce(?:-start)?\(', compiled.as_text())
    sizes = [sum(math.prod(map(int, dims.split(','))) for dims in re.findall(r'\[([\d,]+)\]', r)) for r in results]
    if sizes:
      found.setdefault(name, sizes)
  return found


def run_case(case: dict) -> dict:
  """One fit in this process: seconds by phase, iterations, numbers sent, peak memory beyond imports and the pool."""
  source, clock = Synthetic(case['N'], case['S'], case['C']), Clock()
  jax.block_until_ready(jnp.zeros(1) + 1)
  before = peak_bytes()
  result = fit(source, case['R_S'], case['R_C'], store=case['store'], clock=clock)
  return case | {
    'seconds': {name: round(value, 4) for name, value in result.seconds.items()},
    'iterations': len(result.history),
    'relative_error': result.relative_error,
    'reason': result.reason,
    'peak_bytes': peak_bytes() - before,
    'sent': numbers_sent(),
  }


def measured(case: dict) -> dict:
  """`run_case` in its own processes; the result of process 0."""
  count = case['processes']
  begin = 'from benchmarks import scaling\nimport json, sys\n'
  body = 'print("found", json.dumps(scaling.run_case(json.loads(sys.argv[1]))))'
  if count > 1:
    begin += 'from panda_jax.runtime import processes\n'
    address = f'127.0.0.1:{free_port()}'
    codes = [f'{begin}with processes.joined("{address}", {i}, {count}):\n  {body}' for i in range(count)]
  else:
    codes = [begin + body]
  done = ended([start([sys.executable, '-c', code, json.dumps(case)], case['devices']) for code in codes], 7200)
  if any(status for status, _ in done):
    raise RuntimeError('\n'.join(text[-2000:] for _, text in done))
  found = next(line for line in done[0][1].splitlines() if line.startswith('found '))
  return json.loads(found.removeprefix('found '))


def best_rate(work: float, program, *args) -> float:
  """Work per second of a jitted program, the best of five runs."""
  jax.block_until_ready(program(*args))
  times = []
  for _ in range(5):
    began = time.perf_counter()
    jax.block_until_ready(program(*args))
    times.append(time.perf_counter() - began)
  return work / min(times)


def constants() -> dict:
  """F, B and I of this machine, and L and l between its devices; see docs/explanation/cost.md."""
  key = jax.random.key(0)
  square, wide = jax.random.normal(key, (2048, 2048)), jax.random.normal(key, (64, 1 << 20))
  product = jax.jit(lambda x: jnp.matmul(x, x, precision='highest'))
  total = jax.jit(lambda x: jnp.sum(x * x))
  source = Synthetic(20_000, 64, 32)
  began = time.perf_counter()
  for _ in source.blocks(4096):
    pass
  read = source.samples * source.sample_bytes / (time.perf_counter() - began)
  mesh = data_mesh()
  shards = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))
  seconds = {}
  for numbers in (1, 1 << 20):
    Z = jax.device_put(jnp.ones((mesh.size, 1, 1, numbers)), shards)
    seconds[numbers] = 1 / best_rate(1, lambda Z: over_mesh(Z, function=_sum, mesh=mesh, precision='highest'), Z)
  D = mesh.size
  return {
    'F': best_rate(2 * 2048**3, product, square) / D,
    'B': best_rate(4 * wide.size, total, wide) / D,
    'I': read,
    'l': seconds[1] / max(1, 2 * np.log2(D)),
    'L': 2 * max(1, D - 1) / D * 4 * (1 << 20) / max(1e-9, seconds[1 << 20] - seconds[1]),
    'devices': D,
  }


def _sum(Z, *, precision, axis_name=None):
  del precision
  return jax.lax.psum(Z[0, 0, 0], axis_name)


def machine() -> dict:
  return {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'versions': versions(),
    'platform': platform.platform(),
    'cores': os.cpu_count(),
    'devices': [str(device.device_kind) for device in jax.devices()],
  }


def main(argv) -> None:
  del argv
  options = flags.FLAGS
  if options.model:
    found = None
    if options.constants:
      with open(options.constants) as file:
        found = json.load(file)['constants']
    model.show(found)
    return
  rows = []
  for name in options.cases:
    for change in SWEEPS[name]:
      for _ in range(options.repeats):
        rows.append(measured(BASE | change) | {'sweep': name})
        row = rows[-1]
        per_sample = (row['seconds']['total'] - row['seconds']['compile']) / row['N']
        print(
          f'{name}: {change}: {row["seconds"]["total"]:.2f} s, {row["seconds"]["compile"]:.2f} of them compiling, '
          f'{1e6 * per_sample:.1f} us a sample, {row["peak_bytes"] / 1e6:.0f} MB',
          flush=True,
        )
  result = machine() | {'constants': constants(), 'cases': rows}
  if options.out:
    with open(options.out, 'w') as file:
      json.dump(result, file, indent=2)
  print(json.dumps(result['constants']))


if __name__ == '__main__':
  flags.DEFINE_string('out', None, 'Where to write the results, JSON.')
  flags.DEFINE_list('cases', [*SWEEPS], f'Which sweeps: {", ".join(SWEEPS)}.')
  flags.DEFINE_integer('repeats', 3, 'Runs of each case.')
  flags.DEFINE_bool('model', False, 'Print what the model says, and measure nothing.')
  flags.DEFINE_string('constants', None, 'Results whose constants the model takes; of one H200 if left out.')
  app.run(main)
