"""Many devices: the data that compiled passes send, no transfers to the host, one program per shape."""

import numpy as np
import pytest

from panda_jax.features.sharding import Layout
from tests.simulated import run_with_devices


@pytest.mark.parametrize('samples', [1, 7, 8, 9, 100, 1000])
@pytest.mark.parametrize('devices', [1, 3, 8])
@pytest.mark.parametrize('batch', [None, 1, 5])
def test_a_layout_has_room_and_the_same_on_every_device(samples, devices, batch):
  layout = Layout.of(samples, 16, 8, devices, batch)
  assert layout.groups % devices == 0
  assert layout.groups * layout.places >= samples
  assert layout.groups * layout.places < samples + layout.groups + devices * layout.places  # little is padding
  assert batch is None or layout.places <= batch
  assert layout.nbytes == 4 * np.prod(layout.shape)


@pytest.mark.slow
def test_a_pass_sends_one_sum_and_nothing_goes_to_the_host():
  run_with_devices(
    8,
    """
    import re
    import jax, numpy as np
    from functools import partial
    from panda_jax.features import sharding
    from panda_jax.solver import joint, moments, passes
    from panda_jax.runtime.processes import replicated
    from panda_jax.runtime.environment import small_matrices_in_float64
    from jax.sharding import NamedSharding, PartitionSpec as Spec
    from tests import planted

    N, S, C, R = 45, 24, 12, 3
    samples = planted.structured(N, (4, 6), C).reshape(N, S, C)
    mesh = sharding.data_mesh()
    place = sharding.Layout.of(N, S, C, 8)
    P, W = np.random.default_rng(0).uniform(0, 1, (S, R)), np.eye(C)

    def sums(text):
      return re.findall(r' all-reduce(?:-start)?[(]', text)

    def others(text):
      return re.findall(r' (?:all-gather|all-to-all|collective-permute|reduce-scatter|outfeed|send|recv|custom-call.*'
                        r'callback)[(-]', text)

    with small_matrices_in_float64():
      Z = sharding.to_devices(lambda a, b: samples[a:b], N, place, mesh, np.float32, 1.0, None)
      assert len(Z.sharding.device_set) == 8
      functions = {
        'energy': (passes.energy, ()),
        'K': (moments.position_moments, ()),
        'K1, K2': (moments.position_moments, (W,)),
        'scatter': (moments.channel_scatter, ()),
        'M, N': (moments.channel_moments, (P,)),
        'final': (moments.final_sums, (np.float32(W), np.float32(P))),
      }
      for name, (function, small) in functions.items():
        static = {'function': function, 'mesh': mesh, 'precision': 'highest'}
        small = [replicated(x, NamedSharding(mesh, Spec())) for x in small]
        held = passes.over_mesh.lower(Z, *small, **static).compile()
        zeros = passes.nothing_yet(Z, *small, **static)
        shards = jax.tree.map(lambda x: x.sharding.spec[0], zeros)
        assert {*jax.tree.leaves(shards)} == {'data'}, name
        added = passes.add_on_shards.lower(zeros, Z, *small, **static).compile()
        end = passes.reduce_over_mesh.lower(zeros, mesh=mesh).compile()
        counts = [len(sums(program.as_text())) for program in (held, added, end)]
        assert counts == [1, 0, 1], (name, counts)
        assert not any(others(program.as_text()) for program in (held, added, end)), name
        # A pass streamed in two pieces is one over both; no array is fetched or placed by any of it.
        with jax.transfer_guard('disallow'):
          twice = added(added(zeros, Z, *small), Z, *small)
          streamed, whole = end(twice), held(Z, *small)
        for a, b in zip(jax.tree.leaves(streamed), jax.tree.leaves(whole), strict=True):
          np.testing.assert_allclose(a, 2 * np.asarray(b), rtol=1e-12)
        if name == 'K':
          exact = samples.astype(np.float64)
          exact = np.einsum('nsc,ntc->st', exact, exact)
          np.testing.assert_allclose(whole[0], exact, atol=1e-6 * exact.max())

      # A thin step: the gradient, the line search and the new moments each need what the last one found.
      total = passes.over_mesh(Z, function=passes.energy, mesh=mesh, precision='highest')
      state = jax.tree.map(partial(replicated, sharding=NamedSharding(mesh, Spec())), joint.begin(P, W))
      limits = [replicated(x, NamedSharding(mesh, Spec())) for x in (np.int32(4), np.float64(0))]
      step = joint.advance.lower(Z, state, total, *limits, mode='full', precision='highest').compile()
      text = step.as_text()
      assert len(sums(text)) == 3
      assert not others(text)
      with jax.transfer_guard('disallow'):
        moved, errors = step(Z, state, total, *limits)
      assert np.isfinite(errors[:4]).all()

      # One program per shape: subsets and pieces of one layout, of whatever samples.
      before = sharding._place._cache_size()
      for first in (3, 9):
        sharding.to_devices(lambda a, b: samples[a:b], N - first, place, mesh, np.float32, 0.5, None)
      assert sharding._place._cache_size() == before == 1
    """,
  )
