"""Error against seconds: panda_jax.fit, the published rule in two forms, and L-BFGS-B, on the same arrays.

    python -m benchmarks.solver --cases=small,cats,conv128,wide,large --out=benchmarks/results \
      --small=../shared/data/features_16x16x48.npy --cats=../shared/data/cats64_layer5.npy

Everything runs in this process, one method after the other. Compilation is timed separately. The clock stops while
factors are copied out. Choices favour the yardsticks: their clocks leave out the transfer of the features and the start
of A, ours counts everything from the call of `fit`. The published rule has the best of its learning rates and orders of
the samples (benchmarks/rates.py), and it reads stored samples, while its users generate one in each iteration.
Per case: a table on standard output, solver-CASE.json with everything, solver-CASE.png with the curves.
"""

import datetime
import json
import os
import platform
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from absl import app, flags

from benchmarks import cases, curves, lbfgsb, rates
from benchmarks.curves import Curve
from panda_jax.runtime.compatibility import enable_x64

METHODS = ('thin', 'published', 'lbfgsb', 'ours')

_CASES = flags.DEFINE_list('cases', list(cases.NAMES), f'Which of {", ".join(cases.NAMES)}.')
_METHODS = flags.DEFINE_list('methods', list(METHODS), f'Which of {", ".join(METHODS)}.')
_ITERATIONS = flags.DEFINE_integer('iterations', 10_000, 'Iterations of the published rule, batch 1.', lower_bound=2)
_RATES = flags.DEFINE_integer('rates', 5, 'Learning rates tried, each three times the last.', lower_bound=1)
_ORDERS = flags.DEFINE_integer('orders', 3, 'Orders of the samples tried by the thin form.', lower_bound=1)
_PUBLISHED_SECONDS = flags.DEFINE_float('published_seconds', 120, 'Most seconds per rate of the rule as published.')
_STARTS = flags.DEFINE_integer('starts', 32, 'Random starts of L-BFGS-B and of the comparison with it.', lower_bound=1)
_LBFGSB_SECONDS = flags.DEFINE_float('lbfgsb_seconds', 120, 'No L-BFGS-B run begins after so many seconds.')
_SMALL = flags.DEFINE_string('small', 'tests/data/features.npy', 'Features (N, H, W, C) of the case small.')
_CATS = flags.DEFINE_string('cats', '', 'Features (N, H, W, C) of the case cats.')
_GENERATOR = flags.DEFINE_string('generator', '', 'Folder of the generator of the case generated.')
_LAYER = flags.DEFINE_integer('layer', 5, 'Its layer.')
_SAMPLES = flags.DEFINE_integer('samples', 1000, 'How many samples it makes.', lower_bound=1)
_OUT = flags.DEFINE_string('out', 'benchmarks/results', 'Folder of the JSON files and pictures.')

BLOCK_STEPS = 2000  # at most, of our block solver in the comparison from the same starts


def log(text: str) -> None:
  print(text, flush=True)


def lbfgsb_and_block(case, K: np.ndarray, K_seconds: float) -> tuple[Curve, dict]:
  """L-BFGS-B from random starts at W = I as a curve (best so far), and our block solver from the same starts."""
  from panda_jax.solver import block
  from panda_jax.solver import starts as starts_of_a_fit

  starts = lbfgsb.random_starts(_STARTS.value, len(K), case.parts)
  runs = lbfgsb.minimise(K, starts, _LBFGSB_SECONDS.value)
  theirs = np.array([run.error for run in runs])
  seconds = K_seconds + np.cumsum([run.seconds for run in runs])
  best_so_far = np.minimum.accumulate(theirs)
  identity = np.eye(case.features.shape[2], dtype=np.float32)
  best = runs[int(np.argmin(theirs))]
  check = curves.relative_errors(case.features, [(identity, best.P)])[0]
  curve = Curve(seconds.tolist(), best_so_far.tolist(), steps=True, notes={'error_of_best_on_the_samples': check})

  # As in the restarts of a fit, and in float64. Errors of the resulting P are computed like those of L-BFGS-B.
  ours = {}
  for dtype, tolerance in (('float32', starts_of_a_fit.TOLERANCE), ('float64', 1e-5)):
    with enable_x64(True):
      solve = partial(block.minimise_block, D=None, steps=BLOCK_STEPS, tolerance=tolerance, nonnegative=True)
      arguments = jnp.asarray(K / np.trace(K), dtype), jnp.asarray(starts[: len(runs)], dtype)
      program = jax.jit(lambda K, P, solve=solve: solve(B=K, X=P)).lower(*arguments).compile()
      jax.block_until_ready(program(*arguments))
      began = time.perf_counter()
      state = jax.block_until_ready(program(*arguments))
      seconds_spent = time.perf_counter() - began
      found = [lbfgsb.relative_error(P, K / np.trace(K))[0] for P in np.asarray(state.X, np.float64)]
      ours[dtype] = agreement(np.array(found), theirs) | {
        'seconds': seconds_spent,
        'tolerance': tolerance,
        'steps': np.asarray(state.i).tolist(),
      }
  return curve, {
    'starts': len(runs),
    'ours': ours,
    'lbfgsb': {
      'errors': theirs.tolist(),
      'seconds': sum(run.seconds for run in runs),
      'evaluations': [run.evaluations for run in runs],
      'options': lbfgsb.OPTIONS,
    },
  }


def on_the_fly(case) -> dict:
  """The fit from seeds, which makes the features, and separately their time; programs are compiled before."""
  import panda_jax

  began = time.perf_counter()
  for _ in case.source.blocks(64):
    pass
  making = time.perf_counter() - began
  panda_jax.fit(case.source, parts=case.parts)
  result = panda_jax.fit(case.source, parts=case.parts)
  total = result.seconds['total'] - result.seconds['compile']
  return {
    'making_seconds': making,
    'fit_seconds': total,
    'beyond_making': total / making - 1,
    'error': result.relative_error,
    'seconds_by_phase': result.seconds,
  }


def agreement(ours: np.ndarray, theirs: np.ndarray) -> dict:
  """Our errors and theirs from the same starts: medians, bests, and how often ours is lower or equal."""
  return {
    'errors': ours.tolist(),
    'median_ratio': float(np.median(ours) / np.median(theirs)),
    'best_ratio': float(ours.min() / theirs.min()),
    # Two solvers that reach the same minimum differ in the last digits: 1e-6 of the error counts as equal.
    'lower_or_equal': float(np.mean(ours <= theirs * (1 + 1e-6))),
    'strictly_lower_or_equal': float(np.mean(ours <= theirs)),
  }


def our_fit(case) -> tuple[Curve, dict]:
  """panda_jax.fit, a second time after all its programs are compiled, with every state that it reports."""
  import panda_jax

  snapshots: list[tuple[float, str, np.ndarray, np.ndarray]] = []

  def on_state(state):
    snapshots.append((state.seconds, state.phase, np.array(state.W, np.float32), np.array(state.P, np.float32)))

  def fit():
    snapshots.clear()
    began = time.perf_counter()
    result = panda_jax.fit(case.features, parts=case.parts, grid=case.grid, on_state=on_state)
    return result, time.perf_counter() - began

  first, first_wall = fit()
  result, wall = fit()
  A, P = result.factors.appearances, result.factors.parts
  pairs = [(W, P) for _, _, W, P in snapshots] + [(A @ A.T, P)]
  errors = curves.relative_errors(case.features, pairs)
  end = result.seconds['total'] - result.seconds['compile'] - result.seconds['checkpoint']
  notes = {
    'phases': [phase for _, phase, _, _ in snapshots] + ['result'],
    'reason': result.reason,
    'reported_error': result.relative_error,
    'seconds_by_phase': result.seconds,
    'compile_seconds': first.seconds.get('compile', first_wall - wall),
    'wall_seconds': wall,
  }
  return Curve([s for s, _, _, _ in snapshots] + [end], errors, notes=notes), notes


def comparison(found: dict[str, Curve], others: dict[str, list[Curve]]) -> dict:
  """The comparison of our curve with those of the yardsticks."""
  ours, report = found['ours'], {'first_point_seconds': found['ours'].seconds[0]}
  for name, theirs in found.items():
    if name == 'ours':
      continue
    there, here = theirs.reaches(theirs.final), ours.reaches(theirs.final)
    report[name] = {
      'final_error': theirs.final,
      'lower_final_error': ours.final < theirs.final,
      'seconds_to_its_final_error': there,
      'ours_seconds_to_it': here,
      'speed_up': there / here if here else None,
      'ours_above_between': curves.stretches_above(ours, theirs),
      'ours_above_at_other_rates_between': {
        f'{other.notes["rate"]:.3e}': stretches
        for other in others.get(name, [])
        if (stretches := curves.stretches_above(ours, other))
      },
    }
    extrapolated = theirs.notes.get('extrapolated')
    if extrapolated:
      here = ours.reaches(extrapolated['error'])
      report[name]['extrapolated'] = {
        'final_error': extrapolated['error'],
        'seconds': extrapolated['seconds'],
        'ours_seconds_to_it': here,
        'speed_up': extrapolated['seconds'] / here if here else None,
      }
  return report


def machine() -> dict:
  device = jax.devices()[0]
  return {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'versions': {
      'python': platform.python_version(),
      'jax': jax.__version__,
      'numpy': np.__version__,
      'scipy': scipy.__version__,
    },
    'machine': {
      'system': f'{platform.system()} {platform.machine()}',
      'cpus': os.cpu_count(),
      'device': f'{device.platform}: {device.device_kind}',
    },
  }


def table(case, found: dict[str, Curve], record: dict) -> str:
  lines = [
    f'{"method":34} {"error":>9} {"seconds":>9} {"search s":>9} {"compile s":>9} {"ours to it":>11} {"speed-up":>9}'
  ]
  for name, curve in found.items():
    account = record['rates'].get(name, {})
    row = record.get('comparison', {}).get(name, {})

    def cell(value, width, digits):
      return f'{"-":>{width}}' if value is None else f'{value:{width}.{digits}f}'

    label = curves.STYLE[name][1] + (' (capped)' if curve.notes.get('status') == 'capped' else '')
    lines.append(
      f'{label:34} {curve.final:9.5f} {curve.seconds[-1]:9.3f} {cell(account.get("search_seconds"), 9, 2)} '
      f'{cell(account.get("compile_seconds", curve.notes.get("compile_seconds")), 9, 2)} '
      f'{cell(row.get("ours_seconds_to_it"), 11, 3)} {cell(row.get("speed_up"), 9, 1)}'
    )
    extrapolated = row.get('extrapolated')
    if extrapolated:
      lines.append(
        f'{"  at all iterations, extrapolated":34} {extrapolated["final_error"]:9.5f} {extrapolated["seconds"]:9.1f} '
        f'{"":19} {cell(extrapolated["ours_seconds_to_it"], 11, 3)} {cell(extrapolated["speed_up"], 9, 1)}'
      )
  for name, row in record.get('comparison', {}).items():
    if isinstance(row, dict) and row['ours_above_between']:
      lines.append(f'our curve is above {name} between (seconds): {row["ours_above_between"]}')
    if isinstance(row, dict) and row['ours_above_at_other_rates_between']:
      lines.append(f'  and above {name} at other rates: {row["ours_above_at_other_rates_between"]}')
  made = record.get('on_the_fly')
  if made:
    lines.append(
      f'from seeds: error {made["error"]:.5f} in {made["fit_seconds"]:.2f} s, of which making the features takes '
      f'{made["making_seconds"]:.2f} s: {made["beyond_making"]:.0%} beyond'
    )
  same = record.get('same_starts')
  if same:
    for dtype, ours in same['ours'].items():
      lines.append(
        f'same {same["starts"]} starts, W = I, {dtype}: median {np.median(ours["errors"]):.5f} against L-BFGS-B '
        f'{np.median(same["lbfgsb"]["errors"]):.5f}, best {min(ours["errors"]):.5f} against '
        f'{min(same["lbfgsb"]["errors"]):.5f}, lower or equal in {ours["lower_or_equal"]:.0%}, '
        f'{ours["seconds"]:.3f} s against {same["lbfgsb"]["seconds"]:.3f} s'
      )
  return '\n'.join(lines)


def measure(case: cases.Case, methods: list[str], out: Path) -> None:
  N, S, C = case.features.shape
  log(f'\n{case.name}: (N, S, C) = ({N}, {S}, {C}), {case.parts} parts')
  record = {**machine(), 'case': case.name, 'shape': [N, S, C], 'parts': case.parts, 'rates': {}}
  found: dict[str, Curve] = {}
  others: dict[str, list[Curve]] = {}
  load = os.getloadavg()
  began = time.perf_counter()
  K = lbfgsb.position_scatter(case.features)
  record['K_seconds'] = time.perf_counter() - began
  scale = float(np.linalg.eigvalsh(K)[-1]) / N
  if {'thin', 'published'} & set(methods):
    searches, record['rates'] = rates.measure(
      case,
      methods,
      scale=scale,
      iterations=_ITERATIONS.value,
      count=_RATES.value,
      orders=_ORDERS.value,
      cap=_PUBLISHED_SECONDS.value,
      log=log,
    )
    found = {name: search.best for name, search in searches.items()}
    others = {name: search.others for name, search in searches.items()}
    if len(searches) == 2:
      rates.extrapolate(found['published'], found['thin'], _ITERATIONS.value)
  if 'lbfgsb' in methods:
    found['lbfgsb'], record['same_starts'] = lbfgsb_and_block(case, K, record['K_seconds'])
  if 'ours' in methods:
    found['ours'], record['ours'] = our_fit(case)
    record['comparison'] = comparison(found, others)
    if case.source is not None:
      record['on_the_fly'] = on_the_fly(case)
  record['load_average'] = {'before': load, 'after': os.getloadavg()}  # a busy machine makes the seconds worthless
  record['curves'] = {name: curve.data() for name, curve in found.items()}
  record['other_rates'] = {name: [curve.data() for curve in group] for name, group in others.items()}
  log(table(case, found, record))
  path = out / f'solver-{case.name}.json'
  path.write_text(json.dumps(record, indent=1, allow_nan=False) + '\n')
  title = f'{case.name}: ({N}, {S}, {C}), {case.parts} parts, {os.cpu_count()} CPUs, {jax.devices()[0].device_kind}'
  curves.draw(found, others, title, path.with_suffix('.png'))
  log(f'wrote {path} and {path.with_suffix(".png")}')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  for flag, names in ((_CASES, cases.NAMES), (_METHODS, METHODS)):
    unknown = set(flag.value) - set(names)
    if unknown:
      raise app.UsageError(
        f'--{flag.name}={",".join(flag.value)}: unknown {", ".join(sorted(unknown))}; give any of {", ".join(names)}'
      )
  out = Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  paths = {'small': _SMALL.value, 'cats': _CATS.value}
  for name in _CASES.value:
    if name == cases.GENERATED and _GENERATOR.value:
      case = cases.from_generator(_GENERATOR.value, _LAYER.value, _SAMPLES.value)
    else:
      case = cases.make(name, paths.get(name, ''))
    if isinstance(case, str):
      log(case)
    else:
      measure(case, _METHODS.value, out)


if __name__ == '__main__':
  app.run(main)
