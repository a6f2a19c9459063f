"""Reads checkpoints with random damage: the result must be an InputError or a readable tree.

To run it by hand, with any number (give files to damage them too; use `nice`, as it takes minutes):

    nice python -m tests.converters.fuzz --count=100000 --seed=1 [FILE ...]
"""

import argparse
import dataclasses
import io
import json
import os
import pickletools
import random
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from panda_jax.converters.checkpoint import Module, TensorFlowNetwork, read
from panda_jax.converters.limits import Unknown
from panda_jax.converters.safetensors import write_safetensors
from panda_jax.errors import InputError
from tests.converters.test_checkpoint import generator_module
from tests.converters.writers import (
  Call,
  arrays_like_a_checkpoint,
  network,
  plain_module,
  state_dict,
  write_legacy,
  write_nvlabs,
  write_tensorflow,
  write_zip,
)
from tests.generators import checkpoints, plain_r3gan, tensorflow_files
from tests.mutations import BYTES, Figures, flipped, run

FORESEEN = ('TypeError', 'ValueError', 'UnicodeDecodeError', 'UnicodeEncodeError')  # others are gaps in the checks


def seeds() -> list[bytes]:
  """Small files of each container; some of them try to run a command."""
  tree = {'generator_smooth': state_dict(arrays_like_a_checkpoint()), 'step': 7}
  harm = {'G': Call('posix', 'system', ('touch PWNED',)), 'x': np.ones(2, np.float32)}
  both = [write(value) for write in (write_zip, write_legacy, write_nvlabs) for value in (tree, harm)]
  source = Call('posix', 'system', ('touch PWNED',))
  grown = tensorflow_files.stylegan(checkpoints.stylegan(widths=(2, 2, 2, 2), z_dim=2, w_dim=2, hidden=2, depth=1))
  safe = io.BytesIO()
  write_safetensors(safe, arrays_like_a_checkpoint(), {'format': 'pt'})
  module = generator_module()
  others = [write_zip(tree, order='big'), write_zip(module), write_legacy(module), safe.getvalue()]
  others += [write_nvlabs({'G': None, 'G_ema': module})]
  others += [write_nvlabs(value) for value in plain_snapshots()]
  others += [write_tensorflow((grown, None, grown)), write_tensorflow([network({'build_module_src': source})])]
  return [*both, *others]


def plain_snapshots() -> list[dict]:
  """Plain modules, dill's helpers, and a discriminator of unknown classes."""
  sizes = {'widths': (2, 2), 'blocks': (1, 1), 'inner': (4, 4), 'groups': (2, 1), 'z_dim': 2}
  strange = Call('timm.models', 'Block', (Call('posix', 'system', ('touch PWNED',)),), state={'x': 1}, new=True)
  types = Call('dill._dill', '_load_type', ('set',)), Call('dill._dill', '_create_function', (b'd\x00S', {}))
  hooked = plain_module('timm.models.Block', parameters={'weight': strange}, modules={'0': strange}, hooks=types)
  return [{'D': hooked, 'G_ema': plain_r3gan.pickled(plain_r3gan.arrays(**sizes))}, {'G_ema': hooked}]


def operations(raw: bytes) -> list[tuple[int, int]]:
  """Start and end of each operation of the pickles at the beginning of `raw`."""
  found, position = [], 0
  try:
    while position < len(raw):
      starts = [position + at for *_, at in pickletools.genops(io.BytesIO(raw[position:]))]
      found += list(zip(starts, [*starts[1:], starts[-1] + 1], strict=True))
      position = starts[-1] + 1
  except Exception:  # here the storages of a legacy file begin
    pass
  return found


def reordered(raw: bytes, rng: random.Random) -> bytes:
  """Exchanges operations of a pickle, or replaces one by another."""
  known = operations(raw)
  if len(known) < 2:
    return flipped(raw, rng)
  for _ in range(rng.choice((1, 1, 3))):
    (a, b), (c, d) = sorted(rng.sample(known, 2))
    kind = rng.randrange(4)
    if kind == 0:
      raw = raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]
      break
    if kind == 1:
      raw = raw[:a] + raw[c:d] + raw[a:]
      break
    if kind == 2:
      raw = raw[:a] + rng.choice(pickletools.opcodes).code.encode('latin-1') + raw[a + 1 :]
    else:
      raw = raw[:a] + raw[a:b] * rng.choice((2, 3, 100)) + raw[b:]
      break
  return raw


MUTATIONS = (*BYTES, reordered)


def repacked(raw: bytes, change, rng: random.Random) -> bytes:
  """A zip file with a changed pickle and right checksums, so that more than the check of checksums is tested."""
  out = io.BytesIO()
  with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, 'w') as new:
    for name in old.namelist():
      contents = old.read(name)
      new.writestr(name, change(contents, rng) if name.endswith('/data.pkl') else contents)
  return out.getvalue()


def damaged_copy(raw: bytes, rng: random.Random) -> bytes:
  change = rng.choice(MUTATIONS)
  if raw.startswith(b'PK') and (change is reordered or rng.random() < 0.6):
    return repacked(raw, change, rng)
  return change(raw, rng)


def walked(tree: object) -> int:
  """Visits every node and reads every number."""
  if isinstance(tree, Module):
    return walked(tree.state_dict) + walked(tree.attributes) + walked(tree.init_args) + walked(tree.init_kwargs)
  if isinstance(tree, TensorFlowNetwork):
    return 1 + walked(tree.state)
  if isinstance(tree, dict):
    return 1 + sum(map(walked, tree.values()))
  if isinstance(tree, list):
    return 1 + sum(map(walked, tree))
  if isinstance(tree, np.ndarray):
    tree.tobytes()
    return 1
  assert tree is None or type(tree) in (bool, int, float, str, bytes, Unknown), type(tree)
  return 1


def fuzz(count: int, seed: int, folder: Path, originals: list[bytes]) -> Figures:
  """Damages and reads `count` files in `folder`, which must be the working directory for the marker to be seen.

  Raises:
    Exception: whatever reading raised that is not an InputError, with the case in a note.
    AssertionError: something was run.
  """
  rng = random.Random(seed)

  def outcome(path: Path) -> str:
    try:
      walked(read(path).tree)
      return 'read'
    except InputError as error:
      said = ' '.join(error.problem.split('(')[-1].split()[:2])
      assert not said.endswith(' while') or said.startswith(FORESEEN), said
      return said

  return run(count, folder / 'case', lambda: damaged_copy(rng.choice(originals), rng), outcome)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--count', type=int, default=10_000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('files', nargs='*', type=Path)
  options = parser.parse_args()
  originals = seeds() + [path.read_bytes() for path in options.files]
  with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    figures = fuzz(options.count, options.seed, Path(folder), originals)
    os.chdir('/')
  shown = dataclasses.asdict(figures) | {'outcomes': dict(figures.outcomes.most_common())}
  print(json.dumps(shown, indent=2))


if __name__ == '__main__':
  main()
