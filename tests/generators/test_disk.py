"""Generators on disk: an exact round trip, and clear errors for damaged folders."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import panda_jax
from panda_jax.errors import InputError
from panda_jax.generators import registry, save_generator
from panda_jax.generators.disk import count_parameters, leaves
from panda_jax.runtime.compatibility import enable_x64
from tests.generators.tiny import OPTIONS, Tiny, register

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _known(monkeypatch):
  register(monkeypatch)


@pytest.fixture
def generator():
  made = registry.create('tiny', OPTIONS)
  made.mean.set_value(jnp.array([0.1, -np.pi, 1e-30]))
  return made


@pytest.fixture
def saved(generator, tmp_path):
  save_generator(generator, tmp_path / 'saved', {'source': {'name': 'x.pth'}})
  return tmp_path / 'saved'


def change(folder, **entries):
  path = folder / 'generator.json'
  description = json.loads(path.read_text())
  path.write_text(json.dumps(description | entries))


def refusal(folder) -> str:
  with pytest.raises(InputError) as caught:
    panda_jax.load_generator(folder)
  assert caught.value.argument == 'generator'
  assert str(folder) in str(caught.value)
  return str(caught.value)


def same(first, second):
  first, second = leaves(first), leaves(second)
  assert list(first) == list(second)
  for name, value in first.items():
    assert second[name].dtype == value.dtype
    np.testing.assert_array_equal(np.asarray(second[name]), np.asarray(value))


def test_round_trip(generator, saved):
  loaded = panda_jax.load_generator(saved)
  assert type(loaded) is Tiny
  assert loaded.options == OPTIONS
  assert isinstance(loaded.options.widths, tuple)
  same(generator, loaded)
  assert all(isinstance(value, jax.Array) for value in leaves(loaded).values())


def test_description(generator, saved):
  description = json.loads((saved / 'generator.json').read_text())
  assert description['family'] == 'tiny'
  assert description['options'] == {'z_dim': 3, 'widths': [5, 2], 'clamp': None}
  assert description['layers'] == {'1': [5, 1, 1]}
  assert description['parameters'] == count_parameters(generator) == 3 * 5 + 5 + 3 * 2 + 2 + 1
  assert description['source'] == {'name': 'x.pth'}
  assert 'jax' in description['versions']
  assert str(saved.parent) not in ''.join(path.read_text() for path in saved.rglob('*METADATA'))


def test_bfloat16_weights_are_stored_as_float32(generator, tmp_path):
  graphdef, state = nnx.split(generator)
  half = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(jnp.bfloat16), state))
  save_generator(half, tmp_path / 'half')
  same(nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(jnp.float32), nnx.split(half)[1])), load(tmp_path / 'half'))


def load(folder):
  return panda_jax.load_generator(folder)


def test_float64_weights_are_refused(generator, tmp_path):
  with enable_x64(True):
    generator.mean.set_value(jnp.zeros(3, jnp.float64))
    with pytest.raises(InputError, match='mean: its weights are float64; cast them to float32 first'):
      save_generator(generator, tmp_path / 'wide')
  assert not (tmp_path / 'wide').exists()


def test_overwriting(generator, saved):
  with pytest.raises(InputError, match='it is there already'):
    save_generator(generator, saved)
  generator.strength.set_value(jnp.ones(()))
  save_generator(generator, saved, overwrite=True)
  same(generator, panda_jax.load_generator(saved))


def test_missing(tmp_path):
  assert 'there is no such folder' in refusal(tmp_path / 'none')
  assert 'there is no generator.json in it' in refusal(tmp_path)


@pytest.mark.parametrize('text', ['', '{', '[]', '{"a": 1}', '[' * 100_000, '\x00'])
def test_a_damaged_description(saved, text):
  (saved / 'generator.json').write_text(text)
  assert 'it is damaged: generator.json' in refusal(saved)


@pytest.mark.parametrize(
  ('entries', 'text'),
  [
    ({'format': 2}, 'it is of format 2, not 1; use the version that wrote it'),
    ({'family': 'vae'}, 'family in generator.json: no such family is known'),
    ({'family': ['tiny']}, 'family in generator.json: no such family is known'),
    ({'family': 'progan'}, 'options in generator.json'),
    ({'options': {}}, 'z_dim, widths, clamp missing'),
    ({'options': [1]}, 'hyper-parameters are a dict'),
    ({'options': {'z_dim': 3, 'widths': [5], 'clamp': None}}, 'layers_list.1.bias is none of it'),
    ({'options': {'z_dim': 3, 'widths': [5, 2, 2], 'clamp': None}}, 'layers_list.2.bias is missing'),
    ({'options': {'z_dim': 4, 'widths': [5, 2], 'clamp': None}}, 'mean: expected float32 (4,), found float32 (3,)'),
    ({'options': {'z_dim': 'three', 'widths': [5, 2], 'clamp': None}}, 'options in generator.json'),
    ({'options': {'z_dim': 1 << 60, 'widths': [1 << 60], 'clamp': None}}, 'expected float32 (1152921504606846976,)'),
  ],
  ids=str,
)
def test_a_description_that_is_not_of_these_weights(saved, entries, text):
  change(saved, **entries)
  assert text in refusal(saved)


def test_missing_entries(saved):
  for name in ('options', 'family'):
    path = saved / 'generator.json'
    description = json.loads(path.read_text())
    del description[name]
    path.write_text(json.dumps(description))
    assert f'generator.json has no {name}' in refusal(saved)


def test_missing_weights(saved):
  shutil.rmtree(saved / 'weights')
  assert 'there is no folder weights in it' in refusal(saved)
  (saved / 'weights').mkdir()
  assert 'the weights cannot be read' in refusal(saved)


# After a failed read, other reads end later, and TensorStore warns about them. So this runs in its own process.
DAMAGED = """
import json, sys
import numpy as np
import panda_jax
from panda_jax.errors import InputError
from panda_jax.generators.disk import leaves
from panda_jax.generators.registry import FAMILIES, Family

FAMILIES['tiny'] = Family('tests.generators.tiny', 'Tiny', 'TinyOptions')
whole, *folders = sys.argv[1:]
wanted = leaves(panda_jax.load_generator(whole))
messages = []
for folder in folders:
  try:
    found = leaves(panda_jax.load_generator(folder))
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted), folder
  except InputError as error:
    messages.append(str(error))
print(json.dumps(messages))
"""


def test_damaged_weights(saved, tmp_path):
  """Each file of the weights is cut, emptied, changed and removed; it is refused, or was not needed."""
  copies = []
  for name in [path.relative_to(saved) for path in (saved / 'weights').rglob('*') if path.is_file()]:
    for how in ('cut', 'empty', 'changed', 'removed'):
      copies.append(tmp_path / f'copy{len(copies)}')
      shutil.copytree(saved, copies[-1])
      raw = bytearray((saved / name).read_bytes())
      if how == 'removed':
        (copies[-1] / name).unlink()
        continue
      if how == 'changed' and raw:
        raw[len(raw) // 2] ^= 0xFF
      (copies[-1] / name).write_bytes({'cut': raw[: len(raw) // 2], 'empty': b'', 'changed': raw}[how])
  command = [sys.executable, '-c', DAMAGED, str(saved), *map(str, copies)]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  messages = json.loads(done.stdout)
  assert len(messages) > 10
  for message in messages:
    assert message.startswith('generator=')
    assert 'it is damaged' in message
    assert '\n' not in message


@pytest.mark.parametrize('change_to', [np.zeros(3, np.float64), np.zeros(3, np.int32), np.zeros((3, 1), np.float32)])
def test_weights_of_another_kind(generator, tmp_path, monkeypatch, change_to):
  from panda_jax.generators import disk

  monkeypatch.setattr(
    disk, '_storable', lambda name, value, storage: change_to if name == 'mean' else np.asarray(value)
  )
  save_generator(generator, tmp_path / 'other')
  kind = f'{change_to.dtype} {change_to.shape}'
  assert f'mean: expected float32 (3,), found {kind}' in refusal(tmp_path / 'other')


def test_a_program_that_has_switched_x64_on_loads_and_saves_the_same(generator, saved, tmp_path):
  with enable_x64(True):
    loaded = panda_jax.load_generator(saved)
    same(generator, loaded)
    save_generator(loaded, tmp_path / 'again')
  same(generator, panda_jax.load_generator(tmp_path / 'again'))
