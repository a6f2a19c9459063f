"""The effect of rounding in products and in storage on the error and the factors.

    python -m benchmarks.precision [--features=FILE.npy] [--parts=12] [--out=FILE.json]        six minutes on two cores

CPUs multiply in float32 at any `precision`, so the products of accelerators are emulated here: operands are rounded as
in the hardware, and products are summed in float32. Storage as bfloat16 is not emulated. The error of each result is
computed from its factors in float64.
"""

import contextlib
import dataclasses
import datetime
import json

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import panda_jax
from panda_jax.generators import load_generator
from panda_jax.generators.source import GeneratorSource
from panda_jax.runtime.clock import forget_programs
from panda_jax.runtime.environment import versions
from panda_jax.solver import joint, moments

BFLOAT16, TF32 = 7, 10  # stored bits of the mantissa


@dataclasses.dataclass(frozen=True)
class Case:
  """Attributes: name; bits of operands, None for all; products: 1, or 3 of the leading two pieces; storage."""

  name: str
  bits: int | None = None
  products: int = 1
  storage: str = 'float32'


CASES = (
  Case('highest: float32'),
  Case('high on a TPU: three products of bfloat16', BFLOAT16, 3),
  Case('high or default on a GPU: TF32', TF32),
  Case('default on a TPU: bfloat16', BFLOAT16),
  Case('highest, storage bfloat16', storage='bfloat16'),
)


class Rounding:
  """jax.numpy with another matmul."""

  def __init__(self, case: Case):
    self._case = case

  def __getattr__(self, name):
    return getattr(jnp, name)

  def matmul(self, a, b, **options):
    if jnp.result_type(a, b) != jnp.float32:  # small matrices are never rounded
      return jnp.matmul(a, b, **options)

    def rounded(x):
      return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=self._case.bits)

    a0, b0 = rounded(a), rounded(b)
    total = jnp.matmul(a0, b0, **options)
    if self._case.products == 3:
      total = total + jnp.matmul(a0, rounded(b - b0), **options) + jnp.matmul(rounded(a - a0), b0, **options)
    return total


@contextlib.contextmanager
def emulated(case: Case):
  """Inside, products with the data are rounded."""
  if case.bits is None:
    yield
    return
  try:
    for module in (moments, joint):
      module.jnp = Rounding(case)
    forget_programs()
    yield
  finally:
    for module in (moments, joint):
      module.jnp = jnp
    forget_programs()


def true_error(features: np.ndarray, factors) -> float:
  """Relative error of (N, S, C) features in float64, ten samples at a time."""
  A, P = factors.appearances.astype(np.float64), factors.parts.astype(np.float64)
  residual = energy = 0.0
  for first in range(0, len(features), 10):
    Z = features[first : first + 10].astype(np.float64)
    back = np.einsum('sk,tk,ntc->nsc', P, P, Z, optimize=True) @ (A @ A.T)
    residual += np.sum((Z - back) ** 2)
    energy += np.sum(Z**2)
  return float(residual / energy)


def main(argv) -> None:
  del argv
  options = flags.FLAGS
  if options.features:
    features = np.load(options.features).astype(np.float32)
  else:
    source = GeneratorSource(load_generator('cats64'), 5, 1000)
    features = source.take(np.arange(1000)).reshape(1000, *source.grid, source.channels)
  rows, exact = [], None
  print(f'{"":44s} {"error, as told":>14s} {"float64":>10s} {"parts":>9s} {"A A^T":>9s} {"reason":>10s}')
  for case in CASES:
    with emulated(case):
      result = panda_jax.fit(features, options.parts, storage=case.storage)
    factors = result.factors
    exact = exact or factors
    W, W0 = (f.appearances @ f.appearances.T for f in (factors, exact))
    row = {
      'case': case.name,
      'relative_error': result.relative_error,
      'true_error': true_error(features.reshape(len(features), -1, features.shape[-1]), factors),
      'parts': float(np.abs(factors.parts - exact.parts).max() / exact.parts.max()),
      'outer': float(np.abs(W - W0).max() / np.abs(W0).max()),
      'reason': result.reason,
    }
    rows.append(row)
    numbers = f'{row["relative_error"]:14.6f} {row["true_error"]:10.6f} {row["parts"]:9.1e} {row["outer"]:9.1e}'
    print(f'{case.name:44s} {numbers} {row["reason"]:>10s}', flush=True)
  if options.out:
    record = {
      'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
      'versions': versions(),
      'shape': features.shape,
      'parts': options.parts,
      'rows': rows,
    }
    with open(options.out, 'w') as file:
      json.dump(record, file, indent=1)


if __name__ == '__main__':
  flags.DEFINE_string('features', None, 'A .npy file (N, H, W, C); features of cats64 if left out.')
  flags.DEFINE_integer('parts', 12, 'R_S.')
  flags.DEFINE_string('out', None, 'Where to write the results, JSON.')
  app.run(main)
