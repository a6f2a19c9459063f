"""`run.py info`, `run.py sample` and fits of a generator, on a converted file, as a user runs them."""

import json
import os
import resource

import numpy as np
import pytest
from PIL import Image

from panda_jax.converters.dialects import stylegan2
from panda_jax.errors import InputError
from panda_jax.files.rows import writing
from panda_jax.generators import save_generator, seeds
from panda_jax.generators.seeds import parsed_numbers
from panda_jax.workdir import sample
from tests.commands.calls import run
from tests.generators.checkpoints import DATA, generator
from tests.planted_generators import LinearGenerator

LAYER = 5


@pytest.fixture(scope='module')
def network():
  return generator(stylegan2, 'stylegan2_nvlabs/network.pkl')


@pytest.fixture(scope='module')
def folder(network, tmp_path_factory):
  path = tmp_path_factory.mktemp('generators') / 'network'
  save_generator(network, path)
  return path


@pytest.fixture(scope='module')
def reference():
  with np.load(DATA / 'stylegan2_nvlabs' / 'reference.npz') as file:
    return dict(file)


def test_sample_writes_what_the_reference_code_gives(folder, reference, tmp_path):
  np.save(tmp_path / 'z.npy', reference['z'])
  out = tmp_path / 'out'
  done = run('sample', f'--generator={folder}', f'--latents={tmp_path / "z.npy"}', f'--out={out}', f'--layer={LAYER}')
  assert done.returncode == 0, done.stderr
  assert {path.name for path in out.iterdir()} == {
    *('images.npy', 'images.png', 'w.npy', 'wplus.npy', 'features.npy', 'sample.json')
  }
  images = np.load(out / 'images.npy')
  np.testing.assert_allclose(images.transpose(0, 3, 1, 2), reference['image_psi1.0'], atol=3e-5)  # issue's bound
  assert images.dtype == np.float32
  assert np.abs(images).max() > 1  # before clipping
  with Image.open(out / 'images.png') as sheet:
    assert sheet.size[0] >= images.shape[2]


def test_info_lists_the_layers(folder, network):
  done = run('info', f'--generator={folder}')
  assert done.returncode == 0, done.stderr
  rows = [line.split() for line in done.stdout.splitlines()]
  for layer, size in network.layers.items():
    assert [str(layer), *map(str, size)] in rows


def test_fit_of_a_generator_records_what_made_the_features(folder, tmp_path):
  arguments = ('fit', f'--generator={folder}', '--layer=3', '--samples=12', '--parts=2', f'--workdir={tmp_path / "w"}')
  done = run(*arguments, '--truncation=0.7')
  assert done.returncode == 0, done.stderr
  with np.load(tmp_path / 'w' / 'factors.npz') as file:
    record = json.loads(str(file['provenance']))
  assert record['generator']['truncation'] == 0.7
  assert record['layer'] == 3
  again = run(*arguments, '--truncation=0.7')
  assert 'finished' in again.stderr
  other = run(*arguments, '--truncation=0.5')
  assert other.returncode == 2
  assert 'truncation was 0.7, now 0.5' in other.stderr


def test_resuming_from_given_features(network, tmp_path):
  z = seeds.draws(network, [0, 1])
  sample.sample_into(tmp_path / 'a', network, z, layer=LAYER)
  features = np.load(tmp_path / 'a' / 'features.npy')
  sample.sample_into(tmp_path / 'b', network, z, layer=LAYER, features=features)
  sample.sample_into(tmp_path / 'c', network, z, layer=LAYER, features=features * 0, batch=1)
  sample.sample_into(tmp_path / 'd', network, z, layer=LAYER, drop_rgb=True)
  images = [np.load(tmp_path / name / 'images.npy') for name in 'abcd']
  np.testing.assert_array_equal(images[0], images[1])
  assert np.abs(images[2] - images[0]).max() > 0.01
  assert np.abs(images[3] - images[0]).max() > 0.01
  np.testing.assert_array_equal(np.load(tmp_path / 'c' / 'features.npy'), features * 0)


@pytest.mark.parametrize(('value', 'clipped'), [(1, False), (1.5, True), (-1.5, True)])
def test_it_says_where_the_picture_is_clipped(tmp_path, value, clipped):
  generator = LinearGenerator(np.zeros((4, 4, 3, 2)), np.full((4, 4, 3), value))
  said = []
  sample.sample_into(tmp_path, generator, np.zeros((1, 2)), batch=1, on_note=said.append)
  assert said == ['values beyond black and white are clipped in images.png, and kept in images.npy'] * clipped
  assert np.load(tmp_path / 'images.npy').max() == value


def test_samples_of_other_settings_are_not_replaced(network, tmp_path):
  z = seeds.draws(network, [0])
  sample.sample_into(tmp_path, network, z)
  before = np.load(tmp_path / 'images.npy')
  sample.sample_into(tmp_path, network, z)  # the same again
  with pytest.raises(InputError, match='overwrite'):
    sample.sample_into(tmp_path, network, z, truncation=0.5)
  np.testing.assert_array_equal(np.load(tmp_path / 'images.npy'), before)
  sample.sample_into(tmp_path, network, z, truncation=0.5, overwrite=True)
  assert np.abs(np.load(tmp_path / 'images.npy') - before).max() > 0


def test_noise_of_a_seed_is_the_same_twice(network, tmp_path):
  z = seeds.draws(network, [0])
  images = []
  for name, options in {
    'a': {'noise': 'random', 'noise_seed': 1},
    'b': {'noise': 'random', 'noise_seed': 1},
    'c': {'noise': 'random', 'noise_seed': 2},
    'd': {'noise': 'none'},
  }.items():
    sample.sample_into(tmp_path / name, network, z, **options)
    images.append(np.load(tmp_path / name / 'images.npy'))
  np.testing.assert_array_equal(images[0], images[1])
  assert all(np.abs(images[0] - other).max() > 1e-3 for other in images[2:])


def test_images_that_are_not_finite_stop_it(network, tmp_path):
  rows = np.zeros((3, network.options.w_dim), np.float32)
  rows[1] = 3e38
  with pytest.raises(InputError, match='images=sample 1: they have NaN or infinity'):
    sample.sample_into(tmp_path / 'out', network, rows, space='w')
  assert not (tmp_path / 'out').exists() or not list((tmp_path / 'out').iterdir())


@pytest.mark.parametrize(
  ('options', 'match'),
  [
    ({'layer': 77}, 'layer=77'),
    ({'drop_rgb': True}, 'give --layer'),
    ({'features': np.zeros((1, 2, 2, 3), np.float32)}, 'give --layer'),
    ({'features': np.zeros((1, 2, 2, 3), np.float32), 'layer': LAYER}, 'features=shape 1x2x2x3'),
    ({'labels': np.array([0])}, 'unconditional'),
    ({'transform': np.eye(3)}, 'only StyleGAN3'),
    ({'truncation': np.nan}, 'truncation=nan'),
    ({'noise': 'loud'}, 'noise=loud'),
  ],
)
def test_what_does_not_fit_is_said_and_nothing_is_left(network, tmp_path, options, match):
  with pytest.raises(InputError, match=match):
    sample.sample_into(tmp_path / 'out', network, seeds.draws(network, [0]), **options)
  assert not (tmp_path / 'out').exists() or not list((tmp_path / 'out').iterdir())


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (('info',), '--generator: not given'),
    (('info', '--generator=nowhere'), 'no such folder'),
    (('sample', '--generator=nowhere', '--seeds=x', '--out=out'), 'generator=nowhere'),
    (('sample', '--seeds=0', '--latents=z.npy', '--out=out'), 'either --seeds'),
    (('sample', '--generator=nowhere', '--seeds=0'), '--out: not given'),
  ],
)
def test_one_line_for_a_mistake(arguments, said):
  done = run(*arguments)
  assert done.returncode == 2
  assert said in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1


def test_numbers_and_ranges():
  assert parsed_numbers('0,3-5, 9', 'seeds') == [0, 3, 4, 5, 9]
  for text in ('', 'a', '3-', '5-2'):
    with pytest.raises(InputError, match='seeds='):
      parsed_numbers(text, 'seeds')


def test_rows_are_written_as_they_come_and_appear_when_all_are_there(tmp_path):
  rows = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
  with writing(tmp_path) as create:
    files = [create(f'{name}.npy', rows.shape) for name in ('images', 'wplus')]
    for part in (rows[:3], rows[3:]):
      for file in files:
        file.add(part)
      assert sorted(os.listdir(tmp_path)) == ['.images.npy.partial', '.wplus.npy.partial']
  assert sorted(os.listdir(tmp_path)) == ['images.npy', 'wplus.npy']
  for name in os.listdir(tmp_path):
    np.testing.assert_array_equal(np.load(tmp_path / name), rows)


def test_a_disk_that_fills_up_while_rows_are_written_is_an_error_and_leaves_nothing(tmp_path):
  """Of a file that is mapped into memory a full disk would kill the process."""

  def fill():
    with writing(tmp_path) as create:
      file = create('images.npy', (10, 1000))
      file.add(np.zeros((1, 1000)))
      file._file.flush()
      assert (tmp_path / '.images.npy.partial').stat().st_size < 5000  # no room is taken before it is needed
      for _ in range(9):
        file.add(np.zeros((1, 1000)))

  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
  try:
    with pytest.raises(OSError, match='too large'):
      fill()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert not os.listdir(tmp_path)
