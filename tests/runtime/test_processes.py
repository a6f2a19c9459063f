"""One fit in two processes: the same factors, each sample read once, the same decisions in both."""

import hashlib
import itertools
import json

import numpy as np
import pytest

import panda_jax
from panda_jax.converters.dialects import stylegan2
from panda_jax.features.scan import GRAINED, GrainHash, scan, sha256_of
from panda_jax.features.sources import as_source
from panda_jax.generators.source import GeneratorSource
from panda_jax.runtime.processes import GRAINS, Shares
from tests import planted
from tests.generators.checkpoints import generator
from tests.processes import run_processes

FEATURES = planted.structured(47)  # (47, 8, 8, 16): no multiple of two, so that shares differ


def written(tmp_path):
  np.save(tmp_path / 'z.npy', FEATURES)
  return tmp_path / 'z.npy'


class Among:
  """Stands in for this process being number `process` of `count`."""

  def __init__(self, monkeypatch, process, count):
    monkeypatch.setattr('jax.process_count', lambda: count)
    monkeypatch.setattr('jax.process_index', lambda: process)


def test_shares_are_told():
  assert str(Shares((0, 200, 400))) == '2 processes: samples 0 to 199, 200 to 399'
  assert str(Shares((0, 10, 20, 20, 30, 40))) == '5 processes: samples 0 to 9, 10 to 19, none, ... 30 to 39'


@pytest.mark.parametrize('samples', [1, 2, 47, 4096, 1_000_003])
@pytest.mark.parametrize('count', [1, 2, 3, 8, 100])
def test_shares_are_whole_and_even(monkeypatch, samples, count):
  seen = []
  for process in range(count):
    Among(monkeypatch, process, count)
    shares = Shares.of(samples)
    seen.append((shares.first, shares.last))
    assert shares.last - shares.first <= shares.most
  assert seen[0][0] == 0
  assert seen[-1][1] == samples
  assert all(a[1] == b[0] for a, b in itertools.pairwise(seen))
  assert str(shares).startswith(f'{count} processes: samples {"none" if seen[0][0] == seen[0][1] else 0}')
  # A share ends at a grain, so it is off by less than one, or by a sample if those are smaller.
  assert shares.most <= samples / count + samples / GRAINS + 1


@pytest.mark.parametrize('samples', [1, 47, 5000, 9999])
@pytest.mark.parametrize('size', [1, 13, 4096])
def test_hash_of_grains_depends_on_neither_blocks_nor_shares(monkeypatch, samples, size):
  if samples / size > 1000:
    size = 131
  Z = np.arange(samples * 6, dtype=np.float32).reshape(samples, 2, 3)
  source = as_source(Z, grid=(1, 2))
  bounds = [samples * k // GRAINS for k in range(GRAINS + 1)]
  digest = source.digest()
  for first, last in itertools.pairwise(bounds):
    if last > first:
      digest.update(hashlib.sha256(Z[first:last].tobytes()).digest())
  expected = GRAINED + digest.hexdigest()
  assert sha256_of(source, like=GRAINED) == expected
  for count in (1, 2, 3, 5):
    done = b''
    for process in range(count):
      Among(monkeypatch, process, count)
      shares = Shares.of(samples)
      part, one = source.part(shares.first, shares.last), GrainHash(source, alone=True)
      first = shares.first
      for block in part.blocks(size):
        one.add(block, first)
        first += len(block)
      assert first == shares.last
      one.hexdigest()
      done += b''.join(one._done)
    digest = source.digest()
    digest.update(done)
    assert GRAINED + digest.hexdigest() == expected


def test_parts_of_sources_are_their_samples(tmp_path):
  flat = FEATURES.reshape(47, 64, 16)
  for source in (as_source(FEATURES), as_source(written(tmp_path)), as_source(FEATURES, samples=40)):
    part = source.part(13, 31)
    assert part.samples == 18
    np.testing.assert_array_equal(np.concatenate(list(part.blocks(7))), flat[13:31])
    np.testing.assert_array_equal(part.take(np.array([0, 17])), flat[[13, 30]])
    assert list(source.part(20, 20).blocks(5)) == []
    assert source.samples > 18  # the whole is as it was
  with pytest.raises(panda_jax.InputError, match='cannot be shared out between processes'):
    as_source([FEATURES[:20], FEATURES[20:]]).part(0, 20)


def test_a_hash_of_the_kind_found_before(tmp_path):
  source = as_source(written(tmp_path))
  plain = scan(source)
  grained = scan(source, like=GRAINED)
  assert grained.sha256 == sha256_of(source, like=GRAINED) != plain.sha256
  np.testing.assert_array_equal(grained.energies, plain.energies)


OPTIONS = {
  'device': {'parts': 5},
  'source': {'parts': 5, 'store': 'source', 'budget': 80_000, 'batch': 5},
  'varimax': {'parts': 5, 'rotation': 'varimax', 'center': 'position', 'store': 'host', 'budget': 80_000},
  'one': {'parts': 5, 'samples': 1},  # fewer than processes
}


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  """A file of features, a folder with what two processes of two devices found, and what each printed."""
  out = tmp_path_factory.mktemp('together')
  path = written(out)
  said = run_processes(
    2,
    """
    import jax, numpy as np, panda_jax
    from panda_jax.converters.dialects import stylegan2
    from panda_jax.features import sharding, sources
    from panda_jax.generators import seeds
    from panda_jax.generators.source import GeneratorSource
    from panda_jax.solver import moments
    from panda_jax.runtime.environment import small_matrices_in_float64
    from panda_jax.features.scan import scan
    from panda_jax.solver.passes import over_mesh
    from panda_jax.features.store import Store, plan
    from tests.runtime.test_processes import OPTIONS
    from tests.generators.checkpoints import generator
    assert jax.process_count() == 2 and jax.device_count() == 4
    path, out = sys.argv[1:3]
    read, plain = set(), sources.NpySource._read
    def counted(self, file, count):
      first = (file.tell() - len(self._header)) // self.sample_bytes
      read.update(range(first, first + count))
      return plain(self, file, count)
    sources.NpySource._read = counted
    with small_matrices_in_float64():
      source = sources.as_source(path)
      found = scan(source, 'position')
      mine = processes.own_share(source)
      held = Store(mine, found, plan(source, 47, 'device'), sharding.data_mesh())
      K, _ = over_mesh(held.whole(), function=moments.position_moments, mesh=held.mesh, precision='highest')
    K = np.asarray(K) / found.scale**2
    print('read', sorted(read))
    fits = {name: panda_jax.fit(path, **options) for name, options in OPTIONS.items()}
    if processes.first():
      np.savez(out + '/found.npz', energies=found.energies, mean=found.mean, K=K, scale=found.scale)
      for name, result in fits.items():
        result.factors.save(f'{out}/{name}.npz')
    drawn, draws = set(), seeds.draws
    def noted(generator, numbers):
      numbers = [*numbers]
      drawn.update(numbers)
      return draws(generator, numbers)
    seeds.draws = noted
    network = generator(stylegan2, 'stylegan2_rosinality/checkpoint.pt')
    source = GeneratorSource(network, 4, samples=25, seed=100, batch=4)
    drawn.clear()  # the first, which every process looks at
    result = panda_jax.fit(source, parts=3, store='source', joint=False)
    print('drawn', sorted(drawn))
    if processes.first():
      result.factors.save(out + '/generated.npz')
    """,
    path,
    out,
    devices=2,
  )
  return path, out, said


def printed(said, word):
  """The list that each process printed behind a word."""
  lines = [next(line for line in text.splitlines() if line.startswith(word)) for text in said]
  return [json.loads(line.removeprefix(word)) for line in lines]


@pytest.mark.slow
def test_two_processes_of_two_devices_find_what_one_does(found):
  path, out, said = found
  assert printed(said, 'read') == [[*range(23)], [*range(23, 47)]]  # its own only
  alone = scan(as_source(path), 'position')
  with np.load(out / 'found.npz') as sums:
    np.testing.assert_array_equal(sums['energies'], alone.energies)
    np.testing.assert_allclose(sums['mean'], alone.mean, rtol=1e-12)
    Z = FEATURES.reshape(47, 64, 16).astype(np.float64) - alone.mean
    K = np.einsum('nsc,ntc->st', Z, Z)
    np.testing.assert_allclose(sums['K'], K, atol=1e-6 * np.abs(K).max())
  for name, options in OPTIONS.items():
    two, one = panda_jax.Factors.load(out / f'{name}.npz'), panda_jax.fit(path, **options)
    # A sample alone leaves the factors undetermined, in a valley so flat that rounding decides where in it a fit ends:
    # errors of different CPUs differ by some 1e-5 of themselves.
    if name != 'one':
      planted.assert_same_factors(one.factors, two)
    rel = 1e-4 if name == 'one' else 1e-5
    assert two.provenance['relative_error'] == pytest.approx(one.relative_error, rel=rel), name
    assert two.provenance['sha256'] == sha256_of(as_source(path, samples=options.get('samples')), like=GRAINED)


@pytest.mark.slow
def test_each_process_makes_the_samples_of_its_own_seeds(found):
  _, out, said = found
  assert printed(said, 'drawn') == [[*range(100, 112)], [*range(112, 125)]]
  network = generator(stylegan2, 'stylegan2_rosinality/checkpoint.pt')
  here = panda_jax.fit(GeneratorSource(network, 4, samples=25, seed=100), parts=3, joint=False)
  there = panda_jax.Factors.load(out / 'generated.npz')
  assert there.provenance['relative_error'] == pytest.approx(here.relative_error, rel=1e-5)
  assert there.provenance['sha256'] == here.factors.provenance['sha256']
  assert np.abs(there.parts - here.factors.parts).max() < 1e-3 * there.parts.max()
