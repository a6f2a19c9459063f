"""The filtered leaky ReLU gives the same by channels as in one piece, and so do its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from panda_jax.generators import filters


@pytest.fixture
def in_pieces(monkeypatch):
  """Makes `filtered_lrelu` work in one piece or by a few channels at a time, whatever the size."""

  def choose(by_channels: bool):
    monkeypatch.setattr(filters, 'CACHE', 0 if by_channels else 1 << 60)
    jax.clear_caches()  # CACHE is read when tracing

  yield choose
  jax.clear_caches()  # CACHE is read when tracing


@pytest.mark.parametrize(
  ('up', 'down', 'radial', 'shape', 'wanted'),
  [
    (2, 2, False, (2, 13, 11, 37), (14, 9)),  # the last of three groups of channels overlaps the one before
    (2, 2, True, (1, 12, 12, 16), (17, 13)),  # rows that no number of blocks divides
    (4, 2, False, (1, 10, 12, 20), (18, 20)),  # blocks have even numbers of rows
    (4, 2, True, (2, 10, 10, 3), (17, 11)),  # an odd number of rows: no blocks of rows
    (1, 2, False, (1, 24, 16, 4), (11, 7)),
    (1, 1, False, (2, 20, 12, 17), (16, 10)),  # crops
    (2, 1, False, (1, 9, 9, 18), (14, 12)),
  ],
)
def test_blocks_change_nothing(in_pieces, up, down, radial, shape, wanted):
  rng = np.random.default_rng(0)
  up_filter = None if up == 1 else jnp.asarray(rng.normal(size=6 * up), jnp.float32)
  down_filter = None if down == 1 else jnp.asarray(rng.normal(size=(12, 12) if radial else 12), jnp.float32)
  taps = (1 if up == 1 else 6 * up, 1 if down == 1 else 12)
  padding = tuple(filters.centred_padding(n, up, down, taps, 1, m) for n, m in zip(shape[1:3], wanted, strict=True))
  x, dx = (jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2))

  def f(x):
    return filters.filtered_lrelu(
      x, up_filter, down_filter, up=up, down=down, padding=padding, slope=0.2, gain=1.5, clamp=4.0
    )

  found = []
  for by_channels in (False, True):
    in_pieces(by_channels)
    assert ('scan' in str(jax.make_jaxpr(f)(x))) == by_channels
    value, tangent = jax.jit(lambda x, dx: jax.jvp(f, (x,), (dx,)))(x, dx)
    cotangent = jax.jit(lambda x, dy: jax.vjp(f, x)[1](dy)[0])(x, value)
    found.append((value, tangent, cotangent))
  assert found[0][0].shape == (shape[0], *wanted, shape[3])
  for whole, blocks in zip(*found, strict=True):
    # Another vectorisation rounds sums differently, in the order of 1e-7 of the largest.
    np.testing.assert_allclose(blocks, whole, atol=2e-6 * float(jnp.abs(whole).max()))


@pytest.mark.parametrize('cache', [0, 1 << 30])
def test_sixteen_bits_are_rounded_once(cache, monkeypatch):
  """On a CPU the arithmetic is in float32, whether all channels are filtered at once or a few at a time."""
  monkeypatch.setattr(filters, 'CACHE', cache)
  taps, radial = (jnp.asarray(filters.lowpass(6, 2, 2, 16, radial=two)) for two in (False, True))
  x = jax.random.normal(jax.random.key(0), (2, 10, 9, 20), jnp.bfloat16)
  options = dict(up=2, down=2, padding=((5, 4), (5, 4)), slope=0.2, gain=1.4, clamp=2.0)
  found = filters.filtered_lrelu(x, taps, radial, **options)
  expected = filters.filtered_lrelu(x.astype(jnp.float32), taps, radial, **options)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(found, expected.astype(jnp.bfloat16))
