"""The cost model of docs/explanation/cost.md: seconds of each pass from operations, bytes and a machine's rates."""

import math
from dataclasses import dataclass

# Public figures of one NVIDIA H200 SXM and its NVLink; I is a fast parallel file system. `--constants` replaces them.
H200 = {'F': 67e12, 'B': 4.8e12, 'I': 5e9, 'L': 450e9, 'l': 5e-6}
PER_PROCESS = 8  # devices with one common I


@dataclass(frozen=True)
class Pass:
  """Operations, bytes read on the devices and numbers sent in one pass over all samples.

  Attributes:
    sums: all-reduces that depend on each other.
  """

  operations: float
  bytes: float
  sent: float
  sums: int = 1


def passes(N: int, S: int, C: int, R_S: int, R_C: int) -> dict[str, Pass]:
  """Passes by name, from the formulas of docs/explanation/cost.md."""
  read = 4 * N * S * C
  return {
    'K': Pass(2 * N * S * S * C, read, S * S),
    'scatter': Pass(2 * N * S * C * C, read, C * C),
    'thin step': Pass(N * (4 * S * C * R_S + 12 * C * C * R_S), 2 * read, S * R_S + 9 * R_S**2 + 2 * C * C, 3),
    'M, N': Pass(N * (2 * S * C * R_S + 4 * C * C * R_S), read, 2 * C * C),
    'K1, K2': Pass(N * (2 * S * C * C + 4 * S * S * C), read, 2 * S * S),
    'final': Pass(N * (4 * S * C * R_S + 2 * S * C * R_C + 4 * C * R_C * R_S), read, R_S + 2 * R_C + 2),
  }


def seconds(one: Pass, devices: int, constants: dict, streamed: bool = False) -> dict[str, float]:
  """Seconds by term: computing, memory, source, sending. A pass takes the longest of the first three plus the last."""
  D, k = devices, constants
  terms = {
    'compute': one.operations / (D * k['F']),
    'memory': one.bytes / (D * k['B']),
    'source': one.bytes / (math.ceil(D / PER_PROCESS) * k['I']) if streamed else 0.0,
    'send': 0.0,
  }
  if D > 1:
    terms['send'] = 2 * (D - 1) / D * 8 * one.sent / k['L'] + one.sums * 2 * math.log2(D) * k['l']
  return terms


def whole(terms: dict[str, float]) -> float:
  return max(terms['compute'], terms['memory'], terms['source']) + terms['send']


def show(constants: dict | None) -> None:
  """Prints the curves: an outer iteration on all samples, and a thin step, for devices and samples."""
  constants = constants or H200
  print('constants', {name: f'{constants[name]:.3g}' for name in H200})
  for S, C, R_S in ((64, 32, 8), (256, 512, 16), (1024, 512, 16)):
    print(f'\nS = {S}, C = {C}, R_S = {R_S}: seconds of two Gram passes | of a thin step, and what limits it')
    for exponent in (4, 6, 9):
      all_passes = passes(10**exponent, S, C, R_S, C)
      cells = []
      for devices in (1, 8, 64, 512, 4096):
        streamed = 4 * 10**exponent * S * C / devices > 64e9  # more than the memory of a device
        outer = sum(whole(seconds(all_passes[name], devices, constants, streamed)) for name in ('M, N', 'K1, K2'))
        step = seconds(all_passes['thin step'], devices, constants, streamed)
        cells.append(f'{devices:>5}: {outer:8.2g} | {whole(step):8.2g} {max(step, key=step.get)}')
      print(f'  N = 10^{exponent}  ' + '  '.join(cells))
  print('\nWhere the source limits, features are streamed, and thin steps run on subsets only.')
