"""The sums over samples, against numpy, and the same under jit, shard_map and pmap."""

import jax
import numpy as np
import pytest

from panda_jax.solver import moments
from tests.simulated import run_with_devices

RNG = np.random.default_rng(0)
G, S, m, C, R = 8, 6, 3, 5, 2
Z = RNG.standard_normal((G, S, m, C)).astype(np.float32)
P = np.abs(RNG.standard_normal((S, R)))
A = RNG.standard_normal((C, 3))
W = A @ A.T
SAMPLES = Z.transpose(0, 2, 1, 3).reshape(-1, S, C).astype(np.float64)  # (N, S, C)


def expected():
  Q = P @ P.T
  X = SAMPLES.transpose(0, 2, 1)  # the paper's orientation, (N, C, S)
  return {
    'K1': sum(x.T @ W @ x for x in X),
    'K2': sum(x.T @ W @ W @ x for x in X),
    'M': sum(x @ Q @ x.T for x in X),
    'N': sum(x @ Q @ Q @ x.T for x in X),
    'T': sum(x @ x.T for x in X),
    'residual': sum(np.sum((x - W @ x @ Q) ** 2) for x in X),
    'part_energy': sum(np.sum((A.T @ x @ P) ** 2, axis=0) for x in X),
    'cubes': sum(np.sum((A.T @ x) ** 3, axis=1) for x in X),
  }


def everything(Z, axis_name=None):
  """All sums of one shard, over shards where there are several."""
  K1, K2 = moments.position_moments(Z, W, axis_name=axis_name)
  M, N = moments.channel_moments(Z, P, axis_name=axis_name)
  T = moments.channel_scatter(Z, axis_name=axis_name)
  final = moments.final_sums(Z, A.astype(np.float32), P.astype(np.float32), axis_name=axis_name)
  names = ('residual', 'part_energy', 'cubes')
  return {'K1': K1, 'K2': K2, 'M': M, 'N': N, 'T': T} | {name: final[name] for name in names}


def compare(sums):
  for name, right in expected().items():
    # float32 products of order-one numbers, at most a few hundred to a sum
    np.testing.assert_allclose(sums[name], right, rtol=2e-5, atol=2e-5 * np.abs(right).max(), err_msg=name)


def test_sums_are_those_of_numpy():
  compare(jax.jit(everything)(Z))


def test_identity_needs_no_w():
  K, K2 = moments.position_moments(Z)
  with_w, _ = moments.position_moments(Z, np.eye(C))
  np.testing.assert_allclose(K, with_w, rtol=1e-6, atol=1e-5)
  np.testing.assert_array_equal(K, K2)


@pytest.mark.slow
def test_same_sums_under_jit_shard_map_and_pmap():
  run_with_devices(
    8,
    """
    from functools import partial
    import jax
    from jax.sharding import AxisType, PartitionSpec as Spec
    from tests.solver import test_moments as t
    mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(t.Z, jax.NamedSharding(mesh, Spec('data')))
    t.compare(jax.jit(t.everything)(sharded))
    mapped = jax.shard_map(partial(t.everything, axis_name='data'), mesh=mesh, in_specs=Spec('data'), out_specs=Spec())
    t.compare(jax.jit(mapped)(sharded))
    each = jax.pmap(partial(t.everything, axis_name='data'), axis_name='data')(t.Z.reshape(8, 1, *t.Z.shape[1:]))
    for k in range(8):
      t.compare(jax.tree.map(lambda x: x[k], each))
    """,
  )
