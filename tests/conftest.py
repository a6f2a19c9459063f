"""Makes JAX strict for every test. Warnings are errors by pyproject.toml; x64 stays off, as users have it.

Tests that need several devices start a process of their own with XLA_FLAGS, since the count is fixed at start-up.
"""

import jax

jax.config.update('jax_numpy_rank_promotion', 'raise')
