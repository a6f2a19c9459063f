"""The same factors on any machine: with fewer instructions of the processor, products and sums round otherwise."""

import pytest

import panda_jax
from tests import planted
from tests.simulated import FEWER, run_with_devices
from tests.solver.test_fit import FEATURES, LOOSE

OPTIONS = {
  'all': {'parts': 5},
  'streamed': {'parts': 5, 'store': 'source', 'budget': 80_000, 'batch': 5},
  'low': {'parts': 5, 'appearances': 4, 'center': 'position'},
  'few': {'parts': 2, 'samples': 3},
  'one': {'parts': 2, 'samples': 1},
}


@pytest.mark.slow
@pytest.mark.parametrize(
  ('instructions', 'names'),
  [('AVX2', ('all', 'one')), ('SSE4_2', ('all', 'streamed', 'low', 'few'))],
)
def test_same_factors_with_fewer_instructions(instructions, names, tmp_path, monkeypatch):
  # Compiled as users' fits are, while those here are compiled quickly: these are the same factors too.
  # OPENBLAS_CORETYPE does for numpy and LAPACK what the flag does for XLA; Nehalem has SSE4.2 and no AVX.
  monkeypatch.setenv('XLA_FLAGS', f'{FEWER}{instructions}')
  monkeypatch.setenv('OPENBLAS_CORETYPE', {'AVX2': 'Haswell', 'SSE4_2': 'Nehalem'}[instructions])
  run_with_devices(
    1,
    """
    import sys, panda_jax
    from tests.solver import test_instructions as t
    for name in sys.argv[2:]:
      panda_jax.fit(t.FEATURES, **t.OPTIONS[name]).factors.save(f'{sys.argv[1]}/{name}.npz')
    """,
    str(tmp_path),
    *names,
  )
  for name in names:
    here, there = panda_jax.fit(FEATURES, **OPTIONS[name]), panda_jax.Factors.load(tmp_path / f'{name}.npz')
    if name != 'one':  # a sample alone leaves them undetermined
      planted.assert_same_factors(here.factors, there, **(LOOSE if name == 'few' else {}))
    assert there.provenance['relative_error'] == pytest.approx(here.relative_error, rel=1e-5), name
    assert there.provenance['reason'] == here.reason == 'converged', name
