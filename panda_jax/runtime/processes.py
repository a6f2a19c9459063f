"""Several processes and one fit: joining, agreeing, distributing samples, and ending together.

JAX's own runtime finds the processes, connects their devices and notices those that die. This module adds the rest:
every process reads or makes only its own share of the samples; decisions that depend on a clock, a signal or a disk are
made together; and an error in one process is raised in all of them.

With one process every function here is trivial and costs nothing.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from panda_jax.errors import InputError, Lost
from panda_jax.runtime.supervision import GIST, tell_joined

JOIN_SECONDS = 40  # within which all processes must reach the first one
HEARTBEAT_SECONDS = 25  # after which a silent process counts as dead, and all others end
SHUTDOWN_SECONDS = 300  # for which a finished process waits for the others
LINGER_SECONDS = 3
TRANSPORTS = 'Gloo', 'NCCL', 'gRPC', 'coordination service', 'UNAVAILABLE'  # in errors of a sum that broke off
MOST_TOLD = 4  # shares in a message
GRAINS = 4096  # shares begin at multiples of N / GRAINS, so that hashes of grains do not depend on the shares


def several() -> bool:
  return jax.process_count() > 1


def first() -> bool:
  """Whether this process writes, prints and draws."""
  return jax.process_index() == 0


def _give_up(coordinator: str | None) -> None:
  """Ends a process that waits in vain, since the call in which it waits cannot be interrupted."""
  where = 'the coordinator' if coordinator is None else f'--coordinator={coordinator}'
  print(
    f'error: {where}: not all processes met there within {JOIN_SECONDS} s; check that process 0 runs at this address '
    'and that every process was started, with the same --processes',
    file=sys.stderr,
    flush=True,
  )
  os._exit(2)


def join(coordinator: str | None = None, process_id: int | None = None, processes: int | None = None) -> None:
  """Makes this process one of several, before JAX is used for anything.

  Args:
    coordinator: HOST:PORT at which all can reach process 0. What is left out is detected by
      `jax.distributed.initialize`: in Slurm, Open MPI, Kubernetes and on TPUs that works for all three arguments.
    process_id: 0 to processes - 1.
    processes: how many.

  Raises:
    InputError: the arguments do not fit, or nothing could be detected. A coordinator that cannot be reached within
      JOIN_SECONDS ends the process with a message and exit status 2.
  """
  if coordinator is not None:
    host, colon, port = coordinator.rpartition(':')
    if not host or not colon or not port.isdigit() or not 0 < int(port) < 2**16:
      raise InputError('coordinator', coordinator, 'it is not an address', 'give HOST:PORT of process 0')
    if process_id == 0:  # otherwise JAX's service would crash
      try:
        socket.create_server(('', int(port))).close()
      except OSError as error:
        raise InputError(
          'coordinator', coordinator, f'its port cannot be opened ({error.strerror})', 'choose another port'
        ) from error
  if processes is not None and processes < 1:
    raise InputError('processes', processes, 'it must be positive', 'give the number of processes')
  if process_id is not None and not 0 <= process_id < (processes or 2**31):
    raise InputError('process_id', process_id, 'there is no such process', 'count them from 0 to --processes less 1')
  jax.config.update('jax_enable_preemption_service', False)  # SIGTERM is handled by this package
  clock = threading.Timer(JOIN_SECONDS, _give_up, (coordinator,))
  clock.daemon = True
  clock.start()
  if process_id == 0 and processes is not None and processes > 1:
    print(f'waiting at {coordinator} for {processes - 1} more, {JOIN_SECONDS} s at most', file=sys.stderr, flush=True)
  try:
    jax.distributed.initialize(
      coordinator,
      processes,
      process_id,
      initialization_timeout=2 * JOIN_SECONDS,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=SHUTDOWN_SECONDS,
    )
    jax.devices()  # here the processes exchange their lists of devices
  except Exception as error:  # detection may raise anything
    said = str(error).strip().splitlines()
    raise InputError(
      'distributed',
      True,
      f'the processes could not be joined ({said[0][:200] if said else type(error).__name__})',
      'give --coordinator=HOST:PORT --process_id=I --processes=N, or see docs/how-to/cluster.md for what is detected',
    ) from error
  finally:
    clock.cancel()
  tell_joined(f'process {jax.process_index()} of {jax.process_count()}')
  counts = np.bincount([device.process_index for device in jax.devices()], minlength=jax.process_count())
  if counts.min() != counts.max():
    raise InputError(
      'processes', len(counts), f'they have {", ".join(map(str, counts))} devices', 'give each the same number'
    )
  if len(counts) > GRAINS:
    raise InputError('processes', len(counts), f'more than {GRAINS}', 'give each process more devices')


@contextlib.contextmanager
def joined(
  coordinator: str | None = None, process_id: int | None = None, processes: int | None = None
) -> Iterator[None]:
  """`join`, and at the end a wait for the others; if this process fails alone it does not wait, so that they notice.

  Raises:
    Lost: a sum over the processes was interrupted.
    InputError: as `join`.
  """
  join(coordinator, process_id, processes)
  try:
    yield
  except BaseException as error:
    if several() and _broke_off(error):
      lost = Lost(str(error).strip().splitlines()[0][:GIST])
      lost.kept = getattr(error, 'kept', None)
      raise lost from error
    if getattr(error, 'shared', False):
      jax.distributed.shutdown()
    elif first():
      time.sleep(LINGER_SECONDS)  # all raise the same error: process 0 must not end the others first
    raise
  jax.distributed.shutdown()


def _broke_off(error: BaseException) -> bool:
  """Whether JAX raised it for its transport: a RuntimeError of a computation, or a ValueError of its dispatch."""
  known = isinstance(error, (RuntimeError, ValueError)) and not isinstance(error, InputError)
  return known and any(name in str(error) for name in TRANSPORTS)


def gathered(data: bytes) -> list[bytes]:
  """The data of every process, in all of them. Bytes, since JAX without x64 would round float64."""
  if not several():
    return [data]
  lengths = multihost_utils.process_allgather(np.frombuffer(np.int64(len(data)).tobytes(), np.uint8))
  lengths = np.ascontiguousarray(lengths).view(np.int64).reshape(-1)
  padded = np.zeros(max(1, lengths.max()), np.uint8)
  padded[: len(data)] = np.frombuffer(data, np.uint8)
  rows = multihost_utils.process_allgather(padded)
  return [row[:n].tobytes() for row, n in zip(rows, lengths, strict=True)]


def gathered_array(array: np.ndarray) -> np.ndarray:
  """The arrays (n, ...) of all processes, concatenated; n may differ."""
  parts = gathered(np.ascontiguousarray(array).tobytes())
  return np.frombuffer(b''.join(parts), array.dtype).reshape(-1, *array.shape[1:])


def from_first(data: bytes | None) -> bytes:
  """The data of process 0, in all of them."""
  return gathered((data or b'') if first() else b'')[0]


def array_of_first(array: np.ndarray) -> np.ndarray:
  """The array of process 0, in all of them; all arrays must have the same shape."""
  return np.frombuffer(from_first(array.tobytes()), array.dtype).reshape(array.shape) if several() else array


def any_of(*flags: bool) -> tuple[bool, ...]:
  """For each flag, whether it is set in any process. Every process must call this at the same point."""
  if not several():
    return flags
  return tuple(multihost_utils.process_allgather(np.asarray(flags, np.uint8)).any(axis=0).tolist())


def together(work: Callable):
  """work(); afterwards every process knows whether it succeeded in all.

  Raises:
    InputError: that of the process with the lowest number in which work() raised one, here in every process.
  """
  if not several():
    return work()
  result, error = None, None
  try:
    result = work()
  except InputError as raised:
    error = raised
  told = gathered(json.dumps([*map(str, error.args)]).encode() if error else b'')
  for process, text in enumerate(told):
    if text:
      if error is None or process != jax.process_index():
        argument, value, problem, remedy = json.loads(text)
        error = InputError(argument, value, f'{problem} (in process {process})', remedy)
      error.shared = True
      raise error
  return result


def on_first(work: Callable):
  """work() in process 0 alone; its InputError is raised in all. None in the others."""
  return together(lambda: work() if first() else None)


def agree(record: dict) -> None:
  """Raises in every process unless all passed the same record; names the first key that differs.

  Args:
    record: JSON values by name.
  """
  said = [json.loads(text) for text in gathered(json.dumps(record).encode())]
  for process, other in enumerate(said):
    for key in sorted(said[0].keys() | other.keys()):
      if said[0].get(key) != other.get(key):
        error = InputError(
          key,
          other.get(key),
          f'process {process} has this, process 0 has {said[0].get(key)}',
          'start all processes with the same command and the same versions',
        )
        error.shared = True
        raise error


@dataclasses.dataclass(frozen=True)
class Shares:
  """Which samples belong to which process: process p has those from bounds[p] up to bounds[p + 1]."""

  bounds: tuple[int, ...]

  @classmethod
  def of(cls, samples: int) -> 'Shares':
    """Shares of nearly equal size, up to about a grain."""
    count = jax.process_count()
    grains = [round(p * GRAINS / count) for p in range(count + 1)]
    return cls(tuple(samples * grain // GRAINS for grain in grains))

  def __str__(self) -> str:
    spans = [f'{first} to {end - 1}' if end > first else 'none' for first, end in itertools.pairwise(self.bounds)]
    told = spans if len(spans) <= MOST_TOLD else [*spans[: MOST_TOLD - 1], f'... {spans[-1]}']
    return f'{len(spans)} processes: samples {", ".join(told)}'

  @property
  def first(self) -> int:
    """The first sample of this process."""
    return self.bounds[jax.process_index()]

  @property
  def last(self) -> int:
    """The first sample after those of this process."""
    return self.bounds[jax.process_index() + 1]

  @property
  def most(self) -> int:
    """Samples in the largest share: every process allocates memory for this number."""
    return max(np.diff(self.bounds).tolist())

  def own(self, indices: np.ndarray) -> tuple[np.ndarray, int]:
    """The `indices` (sorted) of this process, counted from its first sample; and the largest number in any process."""
    cuts = np.searchsorted(indices, self.bounds)
    p = jax.process_index()
    return indices[cuts[p] : cuts[p + 1]] - self.first, int(np.diff(cuts).max())


def own_share(source):
  """The samples of a `FeatureSource` that belong to this process; all of them if it is the only one.

  Raises:
    InputError: their number is not known before a pass, or the source cannot be read from the middle.
  """
  if not several():
    return source
  if source.samples is None:
    raise InputError('features', source.name(), 'batches cannot be shared out between processes', 'save a .npy file')
  shares = Shares.of(source.samples)
  return source.part(shares.first, shares.last)


def replicated(array: np.ndarray | jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
  """An array that every process has, placed on all devices; `device_put` would compare the copies first."""
  if not several():
    return jax.device_put(array, sharding)
  if isinstance(array, jax.Array) and array.sharding == sharding:
    return array
  array = np.asarray(array)
  return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def whole_array(Z: jax.Array) -> np.ndarray:
  """A sharded array, copied into the memory of every process."""
  return np.asarray(Z) if Z.is_fully_addressable else multihost_utils.process_allgather(Z, tiled=True)


def least(value: int) -> int:
  """The least value of any process."""
  return min(int(text) for text in gathered(str(value).encode()))
