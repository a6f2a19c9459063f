"""Makes JAX strict for every test. Warnings are errors by pyproject.toml; x64 stays off, as users have it.

Tests that need several devices start a process of their own with XLA_FLAGS, since the count is fixed at start-up.
Most of a test's time is compilation. So LLVM optimises nothing here, which halves that of large programs; commands that
tests start run as users run them. And what was compiled is kept while the tests run, in folders of their own.
"""

import os
import signal
import tempfile
import threading

import jax
import pytest

from tests.simulated import UNOPTIMISED

# Where Ctrl-C is ignored, as by a shell for what it runs in the background, all that tests start would ignore it too.
if threading.current_thread() is threading.main_thread():
  signal.signal(signal.SIGINT, signal.default_int_handler)
if 'PYTEST_XDIST_WORKER' not in os.environ:  # workers, and processes that tests start, inherit it
  _CACHE = tempfile.TemporaryDirectory(prefix='panda-jax-compiled-')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.3'
# Another folder than that of the processes that tests start: theirs are optimised.
jax.config.update('jax_compilation_cache_dir', os.environ['JAX_COMPILATION_CACHE_DIR'] + '/unoptimised')
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)  # thousands of small ones, met by many files
with pytest.MonkeyPatch.context() as patched:
  patched.setenv('XLA_FLAGS', f'{os.environ.get("XLA_FLAGS", "")} {UNOPTIMISED}')
  jax.devices()  # it is read once
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(autouse=True, scope='module')
def bounded_memory():
  """Programs of one file of tests are dropped after it: those of all would take some gigabytes."""
  yield
  jax.clear_caches()
