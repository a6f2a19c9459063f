"""`--mean_w`: a mean of w that is missing in a file is estimated from given seeds, and recorded."""

import json

import numpy as np
import pytest

import panda_jax
from panda_jax.converters.conversion import convert
from panda_jax.errors import InputError
from panda_jax.generators.disk import leaves
from panda_jax.generators.seeds import draws
from tests.commands.calls import call
from tests.converters.test_networks import made
from tests.converters.writers import module, state_dict, write_nvlabs, write_zip
from tests.generators import checkpoints


def written(folder, tree) -> str:
  """A file with a tree of state dicts."""
  path = folder / 'file.pt'
  path.write_bytes(
    write_zip({key: state_dict(value) if isinstance(value, dict) else value for key, value in tree.items()})
  )
  return str(path)


def test_it_is_that_of_the_seeds(tmp_path):
  tree = checkpoints.stylegan2_rosinality(mean=False)
  said = convert(written(tmp_path, tree), tmp_path / 'out', mean_w=1234)
  assert 'mean of w    estimated from 1234 seeds' in said
  ours = panda_jax.Compiled(panda_jax.load_generator(tmp_path / 'out'))
  w = np.asarray(ours.mapping(draws(ours, range(1234))), np.float64)
  # Sums in another order.
  np.testing.assert_allclose(leaves(ours.generator)['w_avg'], w.mean(axis=0), rtol=1e-6, atol=1e-6)
  recorded = json.loads((tmp_path / 'out' / 'generator.json').read_text())['mean_w']
  assert recorded == {'draws': 1234, 'seeds': [0, 1233], 'classes': None}
  z = draws(ours, [0])
  assert np.abs(ours(ours.map(z, truncation=0.5)) - ours(ours.map(z))).max() > 0.01


def test_classes_take_turns(tmp_path):
  whole = checkpoints.stylegan2_nvlabs(c_dim=3, mean=False)
  path = tmp_path / 'network.pkl'
  path.write_bytes(write_nvlabs(module('Generator', buffers=whole.state_dict, kwargs=whole.init_kwargs)))
  convert(path, tmp_path / 'out', mean_w=7)
  ours = panda_jax.load_generator(tmp_path / 'out')
  w = np.asarray(ours.mapping(draws(ours, range(7)), np.arange(7) % 3), np.float64)
  np.testing.assert_allclose(leaves(ours)['w_avg'], w.mean(axis=0), rtol=1e-6, atol=1e-6)
  assert json.loads((tmp_path / 'out' / 'generator.json').read_text())['mean_w']['classes'] == 'in turn'


def test_a_file_that_has_it_keeps_it(tmp_path):
  tree = checkpoints.stylegan2_rosinality()
  said = convert(written(tmp_path, tree), tmp_path / 'out', mean_w=10)
  assert any('mean_w: not needed' in line for line in said)
  np.testing.assert_array_equal(leaves(panda_jax.load_generator(tmp_path / 'out'))['w_avg'], tree['latent_avg'])
  assert 'mean_w' not in json.loads((tmp_path / 'out' / 'generator.json').read_text())


def test_what_it_refuses(tmp_path):
  progan = written(tmp_path, {'generator_smooth': checkpoints.progan()})
  with pytest.raises(InputError, match='mean_w=10: a progan has no w; leave the flag out'):
    convert(progan, tmp_path / 'out', mean_w=10)
  for count in (0, -1, 10**9, True, 1.5):
    with pytest.raises(InputError, match='it must be a count of draws'):
      convert(progan, tmp_path / 'out', mean_w=count)
  assert [path.name for path in tmp_path.iterdir()] == ['file.pt']


def test_without_it_the_refusal_of_truncation_names_it(tmp_path):
  _, ours = made(checkpoints.stylegan2_rosinality(mean=False))
  with pytest.raises(
    InputError, match=r'the mean of w is not known .*; give 1, or convert its file again with --mean_w='
  ):
    ours.map(np.zeros((1, 8)), truncation=0.7)


MEANS = {  # tree, --mean_w; message
  'from the file': (checkpoints.stylegan2_rosinality, None, 'from the file'),
  'none': (
    lambda: checkpoints.stylegan2_rosinality(mean=False),
    None,
    'none, so nothing can be truncated: convert --mean_w=10000 estimates it',
  ),
  'estimated': (lambda: checkpoints.stylegan2_rosinality(mean=False), 3, 'estimated from 3 seeds'),
  'no w': (lambda: {'generator_smooth': checkpoints.progan()}, None, None),
}


@pytest.mark.parametrize('name', MEANS)
def test_the_report_and_info_say_where_it_comes_from(tmp_path, capsys, name):
  tree, count, told = MEANS[name]
  said = convert(written(tmp_path, tree()), tmp_path / 'out', mean_w=count)
  assert call('info', f'--generator={tmp_path / "out"}') == 0
  for lines, width in ((said, 13), (capsys.readouterr().out.splitlines(), 12)):
    assert [line[width:] for line in lines if line.startswith('mean of w')] == ([told] if told else [])
