"""Edits without effect: an error if the request is surely a mistake, else a note, also in the record."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from panda_jax.editing.editor import make_edit
from panda_jax.editing.removal import remove
from panda_jax.editing.zoo import NamedEdit, Spec, write_zoo
from panda_jax.errors import InputError
from panda_jax.generators import registry, save_generator
from panda_jax.solver.factors import Factors
from panda_jax.workdir import edits, refinement
from panda_jax.workdir.edits import edit_into
from panda_jax.workdir.finished_fit import open_workdir
from panda_jax.workdir.samples import Samples
from tests.commands.calls import call

LAYER, CELLS, CHANNELS = 3, 8, 5


@pytest.fixture(scope='module')
def fitted(tmp_path_factory):
  """A fit whose parts are the quarters of the grid and a dead part; the last appearance is dead too."""
  options = {
    'resolution': 16,
    'widths': (6, 6, CHANNELS, CHANNELS, 4, 4),
    'z_dim': 7,
    'w_dim': 8,
    'mapping_widths': (8,),
  }
  rngs = nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))
  folder = tmp_path_factory.mktemp('idle')
  save_generator(registry.create('stylegan2', registry.options_class('stylegan2')(**options), rngs), folder / 'network')
  half = np.arange(CELLS) >= CELLS // 2
  parts = (2 * half[:, None] + half[None]).reshape(-1, 1) == np.arange(5)[None]
  A = np.linalg.qr(np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS)))[0]
  A[:, 4] = 0
  made = {'path': str(folder / 'network'), 'seed': 0}
  (folder / 'fit').mkdir()
  factors = Factors(A, parts.astype(np.float32), (CELLS, CELLS), {'layer': LAYER, 'generator': made})
  factors.save(folder / 'fit' / 'factors.npz')
  return folder / 'fit'


@pytest.fixture
def workdir(fitted, tmp_path):
  return shutil.copytree(fitted, tmp_path / 'fit')


def drawn(path, rows):
  picture = np.zeros((CELLS, CELLS), np.uint8)
  picture[rows] = 255
  Image.fromarray(picture).save(path)
  return f'--mask={path}'


def notes(folder):
  return json.loads((folder / 'edit.json').read_text())['notes']


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (('edit', '--appearance=1', '--alpha=3', 'BLACK'), 'it is black everywhere'),
    (('edit', '--part=0', '--appearance=1', '--alpha=3', 'BLACK'), 'it is black everywhere'),
    (('remove', '--part=0', 'BLACK'), 'it is black everywhere'),
    (('edit', '--part=0', '--appearance=1', '--alpha=3', 'BELOW'), 'nothing of the part is left inside the drawn mask'),
    (('edit', '--part=0,1', '--appearance=1', '--alpha=3', '--feather=1', 'BELOW'), 'nothing of the part is left'),
    (('remove', '--part=0', '--threshold=0.5', 'BELOW'), 'nothing of the part is left inside the drawn mask'),
    (
      ('edit', '--part=4', '--appearance=1', '--alpha=3'),
      'it is dead (all zero); choose a live one: 0, 1, 2, 3',
    ),
    (('edit', '--part=0', '--appearance=4', '--alpha=3'), 'appearance=4: it is dead (all zero)'),
    (('remove', '--part=4'), 'part=4: it is dead (all zero)'),
    (('remove', '--part=0', '--appearance=4'), 'appearance=4: it is dead (all zero)'),
    (('saliency', '--appearance=0,4'), 'appearance=4: it is dead (all zero)'),
  ],
)
def test_what_cannot_be_meant_is_an_error(workdir, tmp_path, capsys, arguments, said):
  names = {'BLACK': drawn(tmp_path / 'black.png', []), 'BELOW': drawn(tmp_path / 'below.png', [6, 7])}
  there = sorted(workdir.iterdir())
  assert call(*(names.get(argument, argument) for argument in arguments), f'--workdir={workdir}', '--seeds=0') == 2
  lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
  assert len(lines) == 1
  assert said in lines[0]
  assert sorted(workdir.iterdir()) == there


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    (('edit', '--part=0', '--appearance=1', '--alpha=0'), ['part 0, appearance 1 changes nothing: alpha is 0']),
    (('edit', '--part=0', '--appearance=1', '--alpha=0,0'), ['part 0, appearance 1 changes nothing: alpha is 0']),
    (('edit', '--part=0', '--appearance=1', '--alpha=-1,0,1'), []),
    (
      ('edit', '--part=0/1', '--appearance=1/2', '--alpha=0/3'),
      ['part 0, appearance 1, alpha 0 changes nothing: alpha is 0'],
    ),
    (
      ('edit', '--part=0', '--appearance=1', '--alpha=1e-9'),
      ['part 0, appearance 1 changes nothing: no pixel of any sample changes by more than 1e-05'],
    ),
    (
      ('remove', '--part=0', '--appearance=1', '--strength=0'),
      ['part 0 removed with appearance 1 changes nothing: alpha is 0'],
    ),
  ],
)
def test_what_may_be_meant_is_a_note(workdir, tmp_path, capsys, arguments, expected):
  assert call(*arguments, f'--workdir={workdir}', '--seeds=0,1', f'--out={tmp_path / "out"}') == 0
  said = [line for line in capsys.readouterr().err.splitlines() if line.startswith('note: ')]
  assert said == [f'note: {note}' for note in expected]
  assert notes(tmp_path / 'out') == expected


def test_terms_that_cancel_are_noted(workdir, tmp_path):
  opened = open_workdir(workdir)
  terms = (Spec((0,), 1, 3.0), Spec((0,), 1, -3.0))
  write_zoo(tmp_path / 'zoo.json', {'none': NamedEdit(opened.digest_factors, LAYER, terms)})
  given = (f'--workdir={workdir}', f'--zoo={tmp_path / "zoo.json"}', '--name=none', '--seeds=0')
  assert call('edit', *given) == 0
  assert notes(workdir / 'edits' / 'none-seeds0') == [
    'none changes nothing: no pixel of any sample changes by more than 1e-05'
  ]


def test_samples_in_which_a_refined_part_is_gone(workdir, tmp_path, monkeypatch):
  opened = open_workdir(workdir)
  parts = np.stack([opened.factors.parts] * 3)
  parts[1, :, 0] = 0
  monkeypatch.setattr(edits, 'refined_parts', lambda *_: parts)
  told = []
  options = edits.EditOptions(on_note=told.append)
  edit_into(tmp_path / 'out', opened, {'x': [Spec((0,), 1, 3.0)]}, Samples((5, 6, 7)), options, refined=True)
  assert told == notes(tmp_path / 'out') == ['x changes nothing in seed 6']
  original, changed = (np.load(tmp_path / 'out' / f'{name}.npy') for name in ('original', 'edited'))
  np.testing.assert_array_equal(changed[1], original[1])
  assert np.abs(changed[[0, 2]] - original[[0, 2]]).max(axis=(1, 2, 3)).min() > 1e-3
  parts[:, :, 0] = 0
  with pytest.raises(InputError, match='refinement left nothing of it in any sample'):
    edit_into(tmp_path / 'y', opened, {'x': [Spec((0,), 1, 3.0)]}, Samples((5, 6, 7)), refined=True)


def test_pictures_that_are_not_finite_stop_an_edit(workdir, tmp_path, capsys):
  alpha = f'--alpha={3e38:g}'
  given = ('--part=0', '--appearance=1', alpha, f'--workdir={workdir}', '--seeds=4', f'--out={tmp_path / "out"}')
  assert call('edit', *given) == 2
  assert 'images=seed 4: they have NaN or infinity' in capsys.readouterr().err
  assert not (tmp_path / 'out').exists() or not list((tmp_path / 'out').iterdir())


def test_what_refinement_emptied():
  parts = np.eye(4, 3, dtype=np.float32)
  parts[:, 2] = 0  # a part that was dead before
  refined = np.stack([parts] * 3)
  refined[[0, 2], :, 1] = 0
  assert refinement.emptied(parts, refined, ['seed 3', 'seed 4', 'seed 5']) == [
    'nothing of part 1 is left in seed 3, seed 5: edits of it change nothing there'
  ]


def test_masks_of_saliency_that_are_empty(workdir, tmp_path, capsys):
  given = ('saliency', '--appearance=0,1', '--threshold=1e9', f'--workdir={workdir}', '--seeds=0', '--samples=2')
  assert call(*given, f'--out={tmp_path / "out"}') == 0
  said = [line for line in capsys.readouterr().err.splitlines() if line.startswith('note: ')]
  assert said == [f'note: appearance {a} is nowhere above the threshold 1e+09: its masks are empty' for a in (0, 1)]
  assert not np.load(tmp_path / 'out' / 'masks.npy').any()


def test_in_python(workdir):
  factors = Factors.load(workdir / 'factors.npz')
  nothing, below = np.zeros((2, CELLS, CELLS))
  below[6:] = 1
  with pytest.raises(InputError, match='it is zero everywhere'):
    make_edit(factors, None, 1, 3.0, mask=nothing)
  for mask in (nothing, below, np.stack([below, below])):
    with pytest.raises(InputError, match='nothing of the part is left inside the drawn mask'):
      make_edit(factors, 0, 1, 3.0, mask=mask)
  some = make_edit(factors, 0, 1, 3.0, mask=np.stack([below, 1 - below]))  # one sample of two
  assert some.mask.any(axis=1).tolist() == [False, True]
  features = np.random.default_rng(0).standard_normal((2, CELLS, CELLS, CHANNELS)).astype(np.float32)
  with pytest.raises(InputError, match='nothing of the part is left inside the drawn mask'):
    remove(features, factors, 0, 1, drawn=below)
  dead = dataclasses.replace(factors, parts=np.zeros_like(factors.parts))
  with pytest.raises(InputError, match='there is none'):
    make_edit(dead, 0, 1, 3.0)
