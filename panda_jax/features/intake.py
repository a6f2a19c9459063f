"""From a source to the store of a fit: the share of this process, the plan, the first scan with its hash, the store."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import jax

from panda_jax.features.scan import Scan, scan, sha256_of
from panda_jax.features.sharding import data_mesh
from panda_jax.features.sources import ArraySource, FeatureSource
from panda_jax.features.store import STORES, Plan, Store, held_in_memory, plan
from panda_jax.runtime import processes


@dataclasses.dataclass(frozen=True)
class Intake:
  """Features after their first scan.

  Attributes:
    source: all samples.
    own: the samples of this process; held in memory if they came from a generator and there is room.
    scan, plan: results of the scan and the choice of store; the same in every process.
  """

  source: FeatureSource
  own: FeatureSource
  scan: Scan
  plan: Plan

  @property
  def sha256(self) -> str | None:
    """The hash of all samples, if it is already known."""
    return sha256_of(self.source) if self.source.defined else self.scan.sha256

  def digest(self) -> str:
    """The hash of all samples; takes one more pass if it is not yet known."""
    return self.sha256 or sha256_of(self.source)

  def store(self, batch: int | None, before: str | None = None, budget: int | None = None) -> Store:
    """This process's samples, kept where the plan says, or in the store `before` with its budget."""
    chosen = dataclasses.replace(self.plan, store=before, budget=budget) if before in STORES else self.plan
    return Store(self.own, self.scan, chosen, data_mesh(), batch)


def taken(
  source: FeatureSource,
  center: str,
  store: str,
  storage: str,
  budget: int | None,
  batch: int | None,
  *,
  hashed: bool,
  like: str | None,
  on_plan: Callable[[Plan], None],
  on_samples: Callable[[str, int], None],
  hold: Callable[[FeatureSource, Callable[[int], None]], ArraySource] = held_in_memory,
) -> Intake:
  """Takes features in.

  Args:
    source: all samples.
    center, batch, like: see `scan.scan`.
    store, storage, budget: see `store.plan`.
    hashed: whether the hash is needed now; the hash of an array can be computed later.
    on_plan: called with the plan as soon as it is made.
    on_samples: called with the name of a pass and how many samples of all processes are done.
    hold: copies the samples of a generator into host memory, if there is room.

  Raises:
    InputError, NonFiniteError: see `scan.scan`, `store.plan` and `processes.own_share`.
  """
  several, most = jax.process_count(), source.samples or math.inf

  def told(name: str) -> Callable[[int], None]:
    """Progress of all processes, estimated from the samples of this one."""
    return lambda n: on_samples(name, min(n * several, most))

  own, chosen = processes.own_share(source), None
  if source.samples is not None:
    chosen = plan(source, source.samples, store, budget, storage, own)
    on_plan(chosen)
  if source.kind == 'generator' and chosen is not None and chosen.store != 'source':  # made once, if there is room
    own = processes.together(partial(hold, own, told('generate')))
  hashed = hashed or source.kind != 'array' or processes.several()
  scanned = scan(source, center, told('scan'), own=own, batch=batch, hashed=hashed, like=like)
  if chosen is None:
    chosen = plan(source, scanned.samples, store, budget, storage)
    on_plan(chosen)
  return Intake(source, own, scanned, chosen)
