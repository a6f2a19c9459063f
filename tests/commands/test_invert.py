"""`invert` as a user types it: photographs in, edits on them out, and messages for mistakes."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from panda_jax.app.choices import Seed
from panda_jax.app.engine import Engine
from panda_jax.commands import requests
from panda_jax.errors import InputError
from panda_jax.files.arrays import npz_bytes
from panda_jax.generators import registry, save_generator
from panda_jax.inversion.files import load_inverted
from panda_jax.inversion.placement import whole
from panda_jax.workdir.finished_fit import open_workdir
from panda_jax.workdir.inversion import labels_of, read_photographs
from panda_jax.workdir.samples import Samples
from tests.commands.calls import call, run

LAYER, QUICK = 2, ('--evaluations=6',)
PROFILE = bytes(16) + b'RGB ' + bytes(108)  # the head of a colour profile


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  options = {'resolution': 8, 'widths': (6, 6, 5, 5), 'z_dim': 7, 'w_dim': 8, 'mapping_widths': (8,)}
  rngs = nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))
  path = tmp_path_factory.mktemp('cli') / 'network'
  generator = registry.create('stylegan2', registry.options_class('stylegan2')(**options), rngs)
  save_generator(generator, path, {'points': {'left': [2, 3], 'right': [6, 3], 'nose': [4, 6]}})
  return path


@pytest.fixture(scope='module')
def workdir(folder):
  path = folder.parent / 'fit'
  given = (f'--generator={folder}', f'--layer={LAYER}', '--samples=8', '--parts=3', '--config.restarts=2')
  assert call('fit', f'--workdir={path}', *given) == 0
  return path


@pytest.fixture(scope='module')
def photographs(folder):
  path = folder.parent / 'photographs'
  path.mkdir()
  rng = np.random.default_rng(0)
  for name, size in (('a.png', (60, 40)), ('b.jpg', (32, 32)), ('c.png', (48, 64))):
    noise = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    noise.resize(size, Image.Resampling.BICUBIC).save(path / name, icc_profile=PROFILE if name == 'b.jpg' else None)
  (path / 'broken.jpg').write_bytes(b'%PDF-1.4')
  shutil.copy(path / 'a.png', path / '\udcff.png')  # a name that is not text
  return path


@pytest.fixture(scope='module')
def inverted(workdir, photographs):
  out = workdir.parent / 'inverted'
  said = run('invert', f'--workdir={workdir}', f'--images={photographs}', f'--out={out}', *QUICK)
  assert said.returncode == 0, said.stderr
  assert 'broken.jpg was left out' in said.stdout
  return out


def test_it_writes_latents_pictures_and_errors(inverted, workdir, photographs):
  assert {path.name for path in inverted.iterdir()} == {'latents.npz', 'inverted.png', 'errors.json', 'photographs'}
  found = load_inverted(inverted, open_workdir(workdir).needed_generator())
  assert found.names == ('a.png', 'b.jpg', 'c.png')
  assert (found.inversion.space, found.inversion.layer) == ('features', LAYER)
  record = json.loads((inverted / 'errors.json').read_text())
  assert record['failed']['broken.jpg'].startswith('it is not a photograph; give')
  assert [*record['failed']] == ['broken.jpg', '\\udcff.png']
  for name, psnr in zip(found.names, found.inversion.psnr, strict=True):
    assert record['errors'][name]['psnr_db'] == pytest.approx(psnr, abs=0.01)
    assert (inverted / 'photographs' / name).read_bytes() == (photographs / name).read_bytes()
  assert np.diff(record['curve']['median_error'])[-1] <= 0


EDIT = ('--part=0', '--appearance=1', '--alpha=-2,0,2', '--feather=1')


@pytest.fixture(scope='module')
def edited(inverted, workdir):
  out = workdir.parent / 'edited'
  said = run('edit', f'--workdir={workdir}', f'--latents={inverted}', *EDIT, f'--out={out}')
  assert said.returncode == 0, said.stderr
  return out


def test_edits_leave_the_photograph_alone_outside_of_them(edited, inverted, workdir):
  found = load_inverted(inverted, open_workdir(workdir).needed_generator())
  np.testing.assert_array_equal(np.load(edited / 'original.npy'), found.inversion.photographs)
  made = np.load(edited / 'edited.npy')
  np.testing.assert_array_equal(made[:, 1], found.inversion.photographs)  # alpha = 0
  for i, name in enumerate(found.names):
    whole = found.photograph(i)
    stem = name.split('.')[0]
    strengths = [np.asarray(Image.open(edited / 'photographs' / f'{stem}-{k}.png')) for k in range(3)]
    np.testing.assert_array_equal(strengths[1], whole)
    with Image.open(edited / 'photographs' / f'{stem}-0.png') as picture:
      assert picture.info.get('icc_profile') == (PROFILE if name == 'b.jpg' else None)
    moved = (strengths[0] != whole).any(axis=2)
    assert 0 < moved.mean() < 1
    box = found.placements[i].corners()
    outside = np.ones(whole.shape[:2], bool)
    low, high = np.floor(box.min(axis=0)).astype(int), np.ceil(box.max(axis=0)).astype(int)
    outside[low[1] : high[1], low[0] : high[0]] = False
    assert not (moved & outside).any()


def test_photographs_of_one_name_keep_apart(inverted, workdir, tmp_path):
  shutil.copytree(inverted, tmp_path / 'twins')
  folder = tmp_path / 'twins'
  (folder / 'photographs' / 'c.png').rename(folder / 'photographs' / 'a.bmp')
  with np.load(folder / 'latents.npz') as stored:
    arrays = dict(stored)
  arrays['description'] = np.asarray(str(arrays['description']).replace('c.png', 'a.bmp'))
  (folder / 'latents.npz').write_bytes(npz_bytes(**arrays))
  assert call('edit', f'--workdir={workdir}', f'--latents={folder}', *EDIT, f'--out={tmp_path / "edit"}') == 0
  assert len([*(tmp_path / 'edit' / 'photographs').iterdir()]) == 9


def test_pictures_of_the_generator_are_shown_where_that_is_asked_for(inverted, workdir, tmp_path):
  given = (f'--workdir={workdir}', f'--latents={inverted}', *EDIT, '--compose=generated', f'--out={tmp_path / "edit"}')
  assert call('edit', *given) == 0
  found = load_inverted(inverted, open_workdir(workdir).needed_generator())
  np.testing.assert_allclose(np.load(tmp_path / 'edit' / 'original.npy'), found.inversion.images, atol=1e-5)
  assert not (tmp_path / 'edit' / 'photographs').exists()


@pytest.mark.parametrize('command', ['remove --part=1', 'refine', 'saliency --appearance=0,1'])
def test_every_command_takes_inversions(command, inverted, workdir, tmp_path):
  name, *flags = command.split()
  said = run(name, f'--workdir={workdir}', f'--latents={inverted}', *flags, f'--out={tmp_path / "out"}')
  assert said.returncode == 0, said.stderr


def test_sample_makes_the_pictures_of_an_inversion(inverted, folder, tmp_path):
  assert call('sample', f'--generator={folder}', f'--latents={inverted}', f'--out={tmp_path / "out"}') == 0
  with np.load(inverted / 'latents.npz') as stored:
    np.testing.assert_allclose(np.load(tmp_path / 'out' / 'images.npy'), stored['images'], atol=1e-5)


def test_the_explorer_edits_photographs(inverted, workdir):
  opened = open_workdir(workdir)
  samples = Samples(given=requests.read_latents(inverted, opened.needed_generator(), None))
  engine = Engine(opened, samples)
  assert engine.most_seeds == 3
  np.testing.assert_array_equal(engine.originals([Seed(1)])[0], samples.given.inversion.photographs[1])


def test_points_turn_a_photograph_to_where_the_generator_has_them(folder, tmp_path):
  image = np.zeros((80, 80, 3), np.uint8)
  image[28:33, 18:23] = 255  # a bright eye at (20, 30) and none at (60, 30): scale 10
  Image.fromarray(image).save(tmp_path / 'a.png')
  (tmp_path / 'points.json').write_text(json.dumps({'a.png': [20, 30, 60, 30]}))
  for points in ('20,30,60,30', tmp_path / 'points.json'):
    given = (f'--generator={folder}', f'--images={tmp_path / "a.png"}', f'--points={points}', '--evaluations=1')
    assert call('invert', *given, '--space=w', f'--out={tmp_path / "out"}', '--overwrite') == 0
    with np.load(tmp_path / 'out' / 'latents.npz') as stored:
      np.testing.assert_allclose(stored['matrices'][0], [[10, 0, 0], [0, 10, 0]], atol=1e-9)
      assert np.unravel_index(stored['photographs'][0].sum(axis=2).argmax(), (8, 8)) in ((2, 1), (2, 2), (3, 1), (3, 2))


def test_an_interrupted_inversion_goes_on(workdir, photographs, tmp_path, monkeypatch, capsys):
  from panda_jax.inversion.invert import Inverter

  calls, original = [], Inverter.__call__

  def counted(self, images, *rest, **told):
    calls.append(len(images))
    if len(calls) == 2:
      raise KeyboardInterrupt
    return original(self, images, *rest, **told)

  monkeypatch.setattr(Inverter, '__call__', counted)
  monkeypatch.setattr('panda_jax.inversion.invert.MOST_AT_ONCE', 1)
  given = (f'--workdir={workdir}', f'--images={photographs}', f'--out={tmp_path / "out"}', '--space=w', *QUICK)
  with pytest.raises(KeyboardInterrupt):
    call('invert', *given)
  assert [path.name for path in (tmp_path / 'out').iterdir()] == ['unfinished']
  capsys.readouterr()
  monkeypatch.setattr('panda_jax.runtime.progress.PLAIN_SECONDS', 0)
  assert call('invert', *given) == 0
  assert len(calls) == 4  # two of three were left
  said = capsys.readouterr().err  # progress of a long inversion, without a terminal
  assert '\n2 of 3 photographs: latents, evaluation 1; at most 6 in all\n' in said
  assert '1 of 3 photographs: latents' not in said
  assert not (tmp_path / 'out' / 'unfinished').exists()


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (('--images=gone.jpg',), 'images=gone.jpg: there is no such file'),
    ((), 'images'),
    (('--images={photographs}/broken.jpg',), 'not a photograph'),
    (('--images={photographs}/a.png', '--points=1,1,1,1'), 'apart'),
    (('--images={photographs}/a.png', '--points=1,x'), 'not numbers'),
    (('--images={photographs}/a.png', '--points=1,1,9,9', '--own_points=1'), 'own_points'),
    (('--images={photographs}/a.png', '--points=1,1,9,9', '--box=1,1,8,8'), 'give one of them'),
    (('--images={photographs}/a.png', '--points=1,1,9,9', '--own_points=2,2,2,2'), 'own_points=2,2,2,2'),
    (('--images={photographs}/a.png', '--own_points=2,3,6,3'), 'given without --points'),
    (('--images={photographs}/a.png', '--points=50,9,9,9,30,30'), 'same order'),
    (('--images={photographs}', '--labels=0,0,0'), 'there are 5 photographs'),
    (('--images={photographs}/a.png', '--box=0,0,8,9'), 'nothing is squeezed'),
    (('--images={photographs}/a.png', '--box=900,900,8,8'), 'outside'),
    (('--images={photographs}', '--points=none.json'), 'points=none.json'),
    (('--images={photographs}/a.png', '--layer=77'), 'layer=77'),
    (('--images={photographs}/a.png', '--space=z'), 'space=z'),
    (('--images={photographs}/a.png', '--labels=1'), 'labels'),
    (('--images={photographs}/a.png', '--encoder=gone.npz'), 'encoder=gone.npz'),
    (('--images={photographs}/a.png', '--recognition=gone.npz'), 'recognition=gone.npz'),
    (('--images={photographs}/a.png', '--evaluations=0'), 'evaluations=0'),
    (('--images={photographs}/a.png', '--regulariser=nan'), 'regulariser'),
  ],
)
def test_mistakes_are_one_sentence(flags, said, workdir, photographs, tmp_path):
  given = [flag.format(photographs=photographs) for flag in flags]
  answer = run('invert', f'--workdir={workdir}', *given, f'--out={tmp_path / "out"}')
  assert answer.returncode == 2
  assert said in answer.stderr
  assert answer.stderr.startswith('error: ')
  assert len(answer.stderr.splitlines()) == 1
  assert not (tmp_path / 'out').exists()


def test_other_results_and_other_noise_are_refused(inverted, edited, workdir, photographs):
  given = (f'--workdir={workdir}', f'--images={photographs}', f'--out={inverted}', '--evaluations=7')
  assert 'another inversion is there' in run('invert', *given).stderr
  noisy = run('edit', f'--workdir={workdir}', f'--latents={inverted}', *EDIT, '--noise=const', f'--out={edited}-2')
  assert 'inverted with noise none' in noisy.stderr
  assert (
    'the folder of an inversion says it'
    in run('edit', f'--workdir={workdir}', f'--latents={inverted}', *EDIT, '--space=w').stderr
  )


@pytest.mark.parametrize(
  ('change', 'problem'),
  [
    (lambda path: path.unlink(), 'it cannot be read'),
    (lambda path: path.write_bytes(b'%PDF'), 'it is not a photograph'),
    (lambda path: Image.new('RGB', (9, 9)).save(path), 'it is not the photograph that was inverted'),
  ],
)
def test_photographs_that_are_gone_are_named(change, problem, inverted, workdir, tmp_path):
  shutil.copytree(inverted, tmp_path / 'moved')
  change(tmp_path / 'moved' / 'photographs' / 'a.png')
  given = (f'--workdir={workdir}', f'--latents={tmp_path / "moved"}', *EDIT)
  said = run('edit', *given, f'--out={tmp_path / "out"}')
  assert said.returncode == 2
  assert f'photographs/a.png in it: {problem}' in said.stderr
  assert '--latents' in said.stderr
  assert call('edit', *given, '--compose=generated', f'--out={tmp_path / "made"}') == 0  # no photograph is needed


def test_composition_is_of_photographs(workdir, tmp_path):
  for command, flags in (('edit', EDIT), ('remove', ('--part=1',))):
    said = run(command, f'--workdir={workdir}', '--seeds=0', *flags, '--compose=generated', f'--out={tmp_path / "out"}')
    assert said.returncode == 2
    assert 'compose=generated: these samples are not photographs' in said.stderr
  assert not (tmp_path / 'out').exists()


def test_edits_are_not_mixed_with_the_photographs_they_are_of(inverted, workdir):
  said = run('edit', f'--workdir={workdir}', f'--latents={inverted}', *EDIT, f'--out={inverted}', '--overwrite')
  assert 'the inversion itself is in it' in said.stderr
  assert len([*(inverted / 'photographs').iterdir()]) == 3


def test_photographs_are_not_truncated(inverted, folder, tmp_path):
  given = (f'--generator={folder}', f'--latents={inverted}', f'--out={tmp_path / "out"}')
  for flag in ('--truncation=0.5', '--truncation_layers=2'):
    assert 'inverted without truncation' in run('sample', *given, flag).stderr


def test_what_holds_no_inversion_is_told(workdir, tmp_path):
  said = run('edit', f'--workdir={workdir}', f'--latents={tmp_path}', *EDIT, f'--out={tmp_path / "out"}')
  assert 'there is no latents.npz in it' in said.stderr
  np.savez(tmp_path / 'latents.npz', w=np.zeros((1, 4, 8), np.float32))  # a user's own file
  given = (f'--workdir={workdir}', f'--latents={tmp_path / "latents.npz"}', *EDIT)
  assert call('edit', *given, f'--out={tmp_path / "out"}') == 0


START = '--evaluations=1', '--space=w'


@pytest.mark.parametrize('name', ['photographs', 'unfinished'])
def test_nothing_is_written_through_a_link(name, folder, photographs, workdir, inverted, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'elsewhere').mkdir()
  (tmp_path / 'out' / name).symlink_to(tmp_path / 'elsewhere')
  said = run('invert', f'--generator={folder}', f'--images={photographs}', f'--out={tmp_path / "out"}', *START)
  assert f'{name} in it is a symbolic link' in said.stderr
  edit = run('edit', f'--workdir={workdir}', f'--latents={inverted}', *EDIT, f'--out={tmp_path / "out"}')
  assert (edit.returncode == 2) == (name == 'photographs')
  assert not any((tmp_path / 'elsewhere').iterdir())


def test_what_others_have_in_the_folder_stays(folder, photographs, tmp_path):
  (tmp_path / 'out' / 'unfinished').mkdir(parents=True)
  (tmp_path / 'out' / 'unfinished' / 'mine.txt').write_text('mine')
  given = (f'--generator={folder}', f'--out={tmp_path / "out"}', *START)
  assert call('invert', *given, f'--images={photographs / "a.png"}') == 0
  assert (tmp_path / 'out' / 'unfinished' / 'mine.txt').read_text() == 'mine'
  assert call('invert', *given, f'--images={photographs / "b.jpg"}', '--overwrite') == 0
  assert [path.name for path in (tmp_path / 'out' / 'photographs').iterdir()] == ['b.jpg']
  said = run('invert', *given, f'--images={tmp_path / "out" / "photographs"}', '--overwrite')
  assert 'the photographs themselves are in it' in said.stderr
  assert (tmp_path / 'out' / 'photographs' / 'b.jpg').exists()


def test_a_crop_on_its_head_is_told(folder, photographs, tmp_path):
  given = (f'--generator={folder}', f'--images={photographs / "a.png"}', f'--out={tmp_path / "out"}', *START)
  assert 'a.png is turned by 180 degrees' in run('invert', *given, '--points=40,24,20,24').stdout
  assert 'turned' not in run('invert', *given, '--points=20,24,40,24', '--overwrite').stdout


def test_labels_are_of_the_photographs_that_were_given(photographs):
  paths = [photographs / name for name in ('a.png', 'broken.jpg', 'c.png')]
  found, failed = read_photographs(paths, lambda name, photograph: whole(photograph, (8, 8)), 3)
  assert [*failed] == ['broken.jpg']
  assert labels_of(found, np.array([0, 1, 2]), paths).tolist() == [0, 2]
  assert labels_of(found, np.array([1]), paths).tolist() == [1, 1]
  assert labels_of(found, None, paths) is None
  with pytest.raises(InputError, match='there are 3 photographs'):
    labels_of(found, np.array([0, 2]), paths)


def test_a_photograph_that_changes_meanwhile_is_told(folder, photographs, tmp_path, monkeypatch):
  from panda_jax.inversion.invert import Inverter

  original = Inverter.__call__
  shutil.copy(photographs / 'a.png', tmp_path / 'a.png')

  def changing(self, *given, **more):
    Image.new('RGB', (9, 9)).save(tmp_path / 'a.png')
    return original(self, *given, **more)

  monkeypatch.setattr(Inverter, '__call__', changing)
  said = run('invert', f'--generator={folder}', f'--images={tmp_path / "a.png"}', f'--out={tmp_path / "out"}', *START)
  assert 'it has changed since it was read' in said.stderr
  assert not (tmp_path / 'out' / 'latents.npz').exists()


def test_the_help_says_the_defaults(capsys):
  from panda_jax.inversion.invert import EVALUATIONS, REGULARISER

  assert call('invert', '--help') == 0
  said = ' '.join(capsys.readouterr().out.split())
  assert f'if left out, {EVALUATIONS}.' in said
  assert f'if left out, {REGULARISER:g}.' in said
