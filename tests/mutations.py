"""Random damage to files, the result of reading them, and the time and memory that this takes.

The fuzzers are `tests/fuzz.py` (everything that the tool reads) and `tests/converters/fuzz.py` (checkpoints).
"""

import dataclasses
import io
import json
import os
import random
import re
import signal
import struct
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.files.arrays import npy_bytes
from tests.memory import resident

LENGTHS = (0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 47) - 1, (1 << 63) - 1, (1 << 64) - 1)
WIDTHS = (1, 2, 4, 8)
LONGEST_CASE = 10  # seconds of the processor


class Hang(Exception):
  """A case took longer than `LONGEST_CASE`."""


@dataclasses.dataclass
class Figures:
  """What a run of a fuzzer found.

  Attributes:
    outcomes: how often each kind of message, or 'read', came out.
    slowest: processor seconds of the slowest case.
    growth: bytes by which the process's peak exceeded its memory at the start.
    largest: bytes of the largest case.
    seconds: of the whole run.
  """

  outcomes: Counter
  slowest: float
  growth: int
  largest: int
  seconds: float


def flipped(raw: bytes, rng: random.Random) -> bytes:
  changed = bytearray(raw)
  for _ in range(rng.choice((1, 1, 2, 4, 16))):
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
  return bytes(changed)


def cut(raw: bytes, rng: random.Random) -> bytes:
  return raw[: rng.randrange(len(raw))]


def lengthened(raw: bytes, rng: random.Random) -> bytes:
  """Replaces bytes somewhere by a large number."""
  width, place = rng.choice(WIDTHS), rng.randrange(len(raw))
  value = rng.choice(LENGTHS) & ((1 << 8 * width) - 1)
  return raw[:place] + value.to_bytes(width, 'little') + raw[place + width :]


def spliced(raw: bytes, rng: random.Random) -> bytes:
  """Drops, repeats or moves a piece."""
  start = rng.randrange(len(raw))
  piece = raw[start : start + rng.choice((1, 2, 8, 64))]
  rest = raw[:start] + raw[start + len(piece) :] if rng.random() < 0.5 else raw
  place = rng.randrange(len(rest) + 1)
  return rest[:place] + piece * rng.choice((0, 1, 1, 2, 50)) + rest[place:]


BYTES = flipped, cut, lengthened, spliced  # of any file


def of_bytes(raw: bytes, rng: random.Random) -> bytes:
  return rng.choice(BYTES)(raw, rng)


# Mutations of formats whose content is not reached by changes of bytes alone.

RAW = '"RAW"'  # placeholder for a text that is not a JSON value


HOSTILE_TEXTS = (
  *('NaN', '-Infinity', '1e400', '9' * 400, '9' * 5000, '-0', '1e-400', '00', '1.', '0x1'),
  *('[' * 3000 + ']' * 3000, '{"a":' * 500 + '1' + '}' * 500, '"\\ud800"', '"\\u0000"', '[1,', '"a" "b"', '//'),
)
HOSTILE_VALUES = (
  *(None, True, False, -1, 0, 1, 2, 7, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, 3e38, 1e-320),
  *('', 'x', 'x' * 5000, '../../x', '/dev/zero', 'a\nb', '\0', 'é😀', '%s%n', '<script>', '__class__'),
  *([], {}, [[]], [{}], {'': 0}, [0] * 2000, [None], ['x'], [1.5, 'a'], {'a': {'b': [1, {}]}}),
)
HOSTILE_SHAPES = '()', '(0,)', '(5,)', '(-1,)', f'({2**40}, 3)', f'({2**63},)', '(1, ' * 30 + ')', '(2, 3', '[2, 3]'
HOSTILE_TYPES = '<f4', '>f8', '<f2', '|b1', '<i8', '|V2', '|V7', '<c8', '<M8[s]', '|O', '<U9', '|S3', '<f16', '<q', ''


def places(value: Any, at: tuple = ()) -> list[tuple]:
  """The paths to all values inside a JSON value."""
  inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
  return [at, *(place for key, one in list(inner)[:40] for place in places(one, (*at, key)))]


def altered(value: Any, place: tuple, change: Callable[[Any], Any]) -> Any:
  """A JSON value with another value at one place."""
  if not place:
    return change(value)
  copied = dict(value) if isinstance(value, dict) else list(value)
  copied[place[0]] = altered(copied[place[0]], place[1:], change)
  return copied


def other_json(raw: bytes, rng: random.Random) -> bytes:
  """Replaces a value in a JSON text by something that is JSON, or nearly."""
  value, inserted = json.loads(raw), rng.choice(HOSTILE_TEXTS)
  for _ in range(rng.choice((1, 1, 2, 5))):
    place, kind = rng.choice(places(value)), rng.randrange(6)
    if kind == 0:
      value = altered(value, place, lambda _: json.loads(RAW))
    elif kind == 1:
      value = altered(value, place, lambda x: [x] * rng.choice((1, 2, 50)))
    elif kind == 2 and place:
      value = altered(value, place[:-1], lambda x, key=place[-1]: left_out(x, key))
    elif kind == 3:
      value = altered(value, place, lambda x: x | {rng.choice(('x', '', 'y' * 5000)): 1} if isinstance(x, dict) else x)
    else:
      value = altered(value, place, lambda _: rng.choice(HOSTILE_VALUES))
  return json.dumps(value).replace(RAW, inserted).encode()


def left_out(value: dict | list, key: Any) -> dict | list:
  copied = dict(value) if isinstance(value, dict) else list(value)
  del copied[key]
  return copied


def json_or_bytes(raw: bytes, rng: random.Random) -> bytes:
  return other_json(raw, rng) if rng.random() < 0.7 else of_bytes(raw, rng)


def other_npy(raw: bytes, rng: random.Random) -> bytes:
  """A `.npy` file with another header, of the right length, or with other numbers."""
  length = int.from_bytes(raw[8:10], 'little')
  header, data = raw[10 : 10 + length].decode('latin-1'), raw[10 + length :]
  kind = rng.randrange(5)
  if kind == 0:
    header = re.sub(r"'descr': '[^']*'", f"'descr': '{rng.choice(HOSTILE_TYPES)}'", header)
  elif kind == 1:
    header = re.sub(r"'shape': \([^)]*\)", f"'shape': {rng.choice(HOSTILE_SHAPES)}", header)
  elif kind == 2:
    header = header.replace('False', rng.choice(('True', 'None', '1', '-' * 3000 + '1', '(' * 3000)))
  elif kind == 3:
    data = of_bytes(data, rng) if data else b'\0'
  else:
    data = rng.choice((np.nan, np.inf, -1, 1e30)) * np.ones(-(-len(data) // 4), '<f4')
    data = data.astype('<f4').tobytes()
  return raw[:8] + struct.pack('<H', len(header)) + header.encode('latin-1') + data


def npy_or_bytes(raw: bytes, rng: random.Random) -> bytes:
  return other_npy(raw, rng) if rng.random() < 0.6 else of_bytes(raw, rng)


def npz_or_bytes(raw: bytes, rng: random.Random) -> bytes:
  """An `.npz` file with one changed member and its right checksum, or with changed bytes anywhere."""
  if rng.random() < 0.3:
    return of_bytes(raw, rng)
  out = io.BytesIO()
  methods = zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2
  with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, 'w', rng.choice(methods)) as new:
    names = old.namelist()
    victim = rng.choice(names)
    for name in names:
      content = old.read(name)
      if name == victim:
        content = _other_member(name, content, rng)
        name = rng.choice((name, name, name, name, 'x' * 300, 'a.npy', '../' + name))
      new.writestr(name, content)
  return out.getvalue()


def _other_member(name: str, content: bytes, rng: random.Random) -> bytes:
  if name != 'provenance.npy' or rng.random() < 0.2:
    return npy_or_bytes(content, rng)
  text = json_or_bytes(str(np.load(io.BytesIO(content))).encode(), rng).decode('latin-1')
  return npy_bytes(np.asarray(text))


def other_literal(raw: bytes, rng: random.Random) -> bytes:
  """A Python file with one literal replaced."""
  text = raw.decode()
  literals = list(re.finditer(r"'[^']*'|-?\d+\.?\d*|\[[^][]*\]", text))
  one = rng.choice(literals)
  strange = "'\\ud800'", '1j', '-' * 500 + '1', '(' * 150 + ')' * 150, '[' * 150 + ']' * 150, '{1: 2}', '{[]: 1}', 'f()'
  new = rng.choice((*strange, *map(repr, HOSTILE_VALUES), '1e400', '9' * 5000, "b'x'", '...', '"\\d"', '*a', 'x := 1'))
  return (text[: one.start()] + new + text[one.end() :]).encode()


def literal_or_bytes(raw: bytes, rng: random.Random) -> bytes:
  return other_literal(raw, rng) if rng.random() < 0.7 else of_bytes(raw, rng)


def run(count: int, path: Path, damaged: Callable[[], bytes], read: Callable[[Path], str]) -> Figures:
  """Reads `count` damaged files.

  Args:
    count: how many.
    path: where each file is written; no other file may appear in its folder.
    damaged: returns the next file.
    read: returns the outcome, a few words.

  Raises:
    Exception: whatever `read` raised, with the case in a note.
    AssertionError: something was written.
  """

  def too_long(*_):
    raise Hang(f'longer than {LONGEST_CASE} s')

  around = sorted(os.listdir(path.parent))
  before, started = resident(), time.perf_counter()
  Path('/proc/self/clear_refs').write_text('5')  # resets the peak
  figures = Figures(Counter(), 0.0, 0, 0, 0.0)
  handler = signal.signal(signal.SIGPROF, too_long)
  try:
    for number in range(count):
      raw = damaged()
      path.write_bytes(raw)
      begun = time.process_time()
      signal.setitimer(signal.ITIMER_PROF, LONGEST_CASE)
      try:
        outcome = read(path)
      except Exception as error:
        error.add_note(f'case {number}, {len(raw)} bytes: {raw[:5000]!r}')
        raise
      finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
      figures.outcomes[outcome] += 1
      figures.slowest = max(figures.slowest, time.process_time() - begun)
      figures.largest = max(figures.largest, len(raw))
  finally:
    signal.signal(signal.SIGPROF, handler)
  path.unlink(missing_ok=True)
  assert sorted(os.listdir(path.parent)) == around, 'something was written'
  figures.growth, figures.seconds = resident('VmHWM') - before, time.perf_counter() - started
  return figures
