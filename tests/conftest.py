"""Makes JAX strict for every test. Warnings are errors by pyproject.toml; x64 stays off, as users have it.

Tests that need several devices start their own process with XLA_FLAGS, since the number is fixed at start-up.
Most of a test's time is compilation. So tests compile with little optimisation. One folder has the compiled programs of
all workers and of the commands that tests start; later runs use it too, see programs.py. Fits with fewer instructions
compile as for users.
"""

import gc
import os
import signal
import tempfile
import threading
from pathlib import Path

# Matrices here are small, and waiting threads use processor time: a decomposition cost eight times that of one thread.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # before NumPy is imported

import jax
import pytest

from panda_jax.commands.compilation import OF_XLA
from tests import programs
from tests.memory import STATUS, resident
from tests.simulated import QUICK, ROOT

# A shell starts background jobs with Ctrl-C ignored. Processes that tests start would then ignore it too.
if threading.current_thread() is threading.main_thread():
  signal.signal(signal.SIGINT, signal.default_int_handler)
_CACHE = None
if 'PYTEST_XDIST_WORKER' not in os.environ:  # workers and the processes of tests inherit it
  _CACHE = tempfile.TemporaryDirectory(prefix='panda-jax-compiled-')
  programs.take(Path(_CACHE.name))
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'  # thousands of small programs serve many files
  os.environ['JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES'] = 'none'  # else their folder is part of every key
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {QUICK}'.strip()
jax.config.update('jax_compilation_cache_dir', os.environ['JAX_COMPILATION_CACHE_DIR'])  # pytest may have imported jax
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
if hasattr(jax.config, OF_XLA):
  jax.config.update(OF_XLA, 'none')
jax.devices()  # reads the flags
jax.config.update('jax_numpy_rank_promotion', 'raise')
gc.set_threshold(50_000, 20, 100)  # a trace makes many lasting objects; fewer collections scan them


def pytest_unconfigure():
  if _CACHE is not None:
    programs.keep(Path(_CACHE.name))


# The slowest files run first. Otherwise one of them would run alone at the end.
LONGEST = (
  'solver/test_fit.py',
  'commands/test_failures.py',
  'generators/test_contract.py',
  'test_documents.py',
  'commands/test_chains.py',
  'generators/test_stylegan3.py',
  'generators/test_stylegan2.py',
  'app/test_browser.py',
  'examples/test_train_steps.py',
  'converters/test_main.py',
)


def pytest_collection_modifyitems(items):
  def rank(item):
    name = item.path.relative_to(ROOT / 'tests').as_posix()
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)

  items.sort(key=rank)  # keeps the order within a rank


MOST_MEMORY = 2_500_000_000  # bytes of a worker; above it, programs of earlier files are dropped


@pytest.fixture(autouse=True, scope='module')
def bounded_memory():
  """Keeps compiled programs for the next files of tests, until they take gigabytes."""
  yield
  if not STATUS.exists() or resident() > MOST_MEMORY:
    jax.clear_caches()
