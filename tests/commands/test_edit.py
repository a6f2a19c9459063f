"""`run.py edit` and `remove` as a user runs them: files, records, the zoo, and messages for mistakes."""

import html
import json
import re
import shlex
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from panda_jax.commands import program, requests
from panda_jax.editing.editor import Editor, make_edit, offset
from panda_jax.generators import registry, save_generator
from panda_jax.pictures import maps
from panda_jax.solver.factors import Factors
from panda_jax.workdir.finished_fit import open_workdir
from tests.commands.calls import call, process

LAYER, PARTS, CHANNELS = 2, 3, 5


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  options = {'resolution': 8, 'widths': (6, 6, CHANNELS, 5), 'z_dim': 7, 'w_dim': 8, 'mapping_widths': (8,)}
  rngs = nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))  # threefry takes far longer to compile
  path = tmp_path_factory.mktemp('cli') / 'network'
  save_generator(registry.create('stylegan2', registry.options_class('stylegan2')(**options), rngs), path)
  return path


@pytest.fixture(scope='module')
def fitted(folder):
  path = folder.parent / 'fit'
  given = (f'--generator={folder}', f'--layer={LAYER}', '--samples=8', f'--parts={PARTS}', '--config.restarts=2')
  assert call('fit', f'--workdir={path}', *given) == 0
  return path


@pytest.fixture
def workdir(fitted, tmp_path):
  """A copy, so that no test sees the edits of another."""
  shutil.copytree(fitted, tmp_path / 'fit', ignore=shutil.ignore_patterns('checkpoints'))
  return tmp_path / 'fit'


EDIT = ('--part=1', '--appearance=2', '--alpha=4')


@pytest.mark.oldest
def test_edit_writes_every_file(workdir, capsys):
  assert call('edit', f'--workdir={workdir}', *EDIT) == 0
  out = workdir / 'edits' / 'part1-appearance2-alpha4'
  names = {'original.npy', 'edited.npy', 'difference.npy', 'edit.json', 'strip.png', 'difference.png'}
  assert {path.name for path in out.iterdir()} == names
  assert str(out / 'edited.npy') in capsys.readouterr().out
  original, edited, difference = (np.load(out / f'{name}.npy') for name in ('original', 'edited', 'difference'))
  assert original.shape == edited.shape == (4, 8, 8, 3)
  assert original.dtype == edited.dtype == np.float32
  np.testing.assert_array_equal(difference, edited - original)
  opened = open_workdir(workdir)
  latents = opened.latents([0, 1, 2, 3])
  np.testing.assert_allclose(original, opened.generator(latents), atol=1e-5)
  expected = Editor(opened.generator, LAYER).images(latents, make_edit(opened.factors, 1, 2, 4.0))
  np.testing.assert_allclose(edited, expected.edited, atol=1e-6)
  record = json.loads((out / 'edit.json').read_text())
  assert record['settings']['seeds'] == [0, 1, 2, 3]
  assert record['settings']['factors'] == opened.digest_factors
  assert record['strengths'] == [4]


def test_the_same_command_again_and_another_one(workdir, capsys):
  out = f'--out={workdir / "x"}'
  assert call('edit', f'--workdir={workdir}', *EDIT, out) == 0
  assert call('edit', f'--workdir={workdir}', *EDIT, out) == 0
  before = (workdir / 'x' / 'edited.npy').read_bytes()
  other = ('--part=1', '--appearance=2', '--alpha=5')
  assert call('edit', f'--workdir={workdir}', *other, out) == 2
  assert 'another edit is there' in capsys.readouterr().err
  assert (workdir / 'x' / 'edited.npy').read_bytes() == before
  assert call('edit', f'--workdir={workdir}', *other, out, '--overwrite') == 0
  assert (workdir / 'x' / 'edited.npy').read_bytes() != before


def test_a_name_that_is_taken_asks_for_another_name(workdir, capsys):
  """The folders already have other results, so that the commands stop before they compute."""
  for name in ('taken', 'edits/taken', 'edits/part1-appearance2-alpha4'):
    (workdir / name).mkdir(parents=True)
    for record in ('edit.json', 'refine.json', 'statistics.json'):
      (workdir / name / record).write_text('{}')
  commands = {'edit': EDIT, 'remove': ('--part=1',), 'refine': ('--seeds=0',), 'saliency': ('--appearance=0',)}
  for command, given in commands.items():
    assert call(command, f'--workdir={workdir}', *given, '--name=taken') == 2
    said = capsys.readouterr().err
    assert 'error: --name=taken: ' in said
    assert f'there, in {workdir}' in said
    assert said.endswith('; choose another name, or use --overwrite\n')
  assert call('edit', f'--workdir={workdir}', *EDIT) == 2
  said = capsys.readouterr().err
  assert f'error: --out={workdir / "edits" / "part1-appearance2-alpha4"}: another edit is there; ' in said
  assert said.endswith('; choose another folder with --out, or use --overwrite\n')


def test_grids_sweeps_and_sums(workdir):
  several = ('--part=0/1,2', '--appearance=1/3', '--alpha=-2,0,2', '--seeds=0-2')
  assert call('edit', f'--workdir={workdir}', *several, '--name=grid') == 0
  edited = np.load(workdir / 'edits' / 'grid' / 'edited.npy')
  assert edited.shape == (3, 2, 3, 8, 8, 3)
  original = np.load(workdir / 'edits' / 'grid' / 'original.npy')
  np.testing.assert_array_equal(edited[:, 1, 1], original)
  assert call('edit', f'--workdir={workdir}', *several, '--name=sum', '--add') == 0
  assert (workdir / 'edits' / 'sum' / 'sweep.gif').is_file()
  opened = open_workdir(workdir)
  both = make_edit(opened.factors, 0, 1, [-2, 0, 2]) + make_edit(opened.factors, [1, 2], 3, [-2, 0, 2])
  expected = Editor(opened.generator, LAYER).images(opened.latents([0, 1, 2]), both)
  np.testing.assert_allclose(np.load(workdir / 'edits' / 'sum' / 'edited.npy'), expected.edited, atol=1e-5)


def test_every_edit_may_have_a_strength_of_its_own(workdir):
  opened = open_workdir(workdir)
  latents, editor = opened.latents([0, 1]), Editor(opened.generator, LAYER)

  def expected(*edits, add):
    edits = [make_edit(opened.factors, part, index, alpha) for part, index, alpha in edits]
    return editor.images(latents, edits[0] + edits[1] if add else edits).edited

  for name, given, edits in (
    ('strengths', ('--part=0/1,2', '--appearance=1/3', '--alpha=3/-2'), ((0, 1, 3), ([1, 2], 3, -2))),
    ('sweeps', ('--part=0/1', '--appearance=1/3', '--alpha=-2,2/0.5,1'), ((0, 1, [-2, 2]), (1, 3, [0.5, 1]))),
    ('one-part', ('--part=1', '--appearance=3', '--alpha=3/-2'), ((1, 3, 3), (1, 3, -2))),
    ('one-appearance', ('--part=0/1', '--appearance=3', '--alpha=2'), ((0, 3, 2), (1, 3, 2))),
  ):
    for add in (False, True):
      given = (*given, f'--name={name}-{add}', '--seeds=0,1', *(['--add'] if add else []))
      assert call('edit', f'--workdir={workdir}', *given) == 0
      found = np.load(workdir / 'edits' / f'{name}-{add}' / 'edited.npy')
      np.testing.assert_allclose(found, expected(*edits, add=add), atol=1e-5)
      given = given[:3]
  record = json.loads((workdir / 'edits' / 'strengths-False' / 'edit.json').read_text())
  assert list(record['settings']['edits']) == ['part 0, appearance 1, alpha 3', 'parts 1 and 2, appearance 3, alpha -2']
  assert call('edit', f'--workdir={workdir}', '--part=0/1', '--appearance=1', '--alpha=3/-2', '--seeds=0') == 0
  assert (workdir / 'edits' / 'part0-appearance1-part1-appearance1-alpha3_-2-seeds0').is_dir()


def test_masks_directions_units_and_refined_parts(workdir, tmp_path):
  drawn = np.zeros((8, 8), np.uint8)
  drawn[2:5, 1:4] = 255
  Image.fromarray(drawn).save(tmp_path / 'mask.png')
  rows = np.random.default_rng(0).standard_normal((2, CHANNELS)).astype(np.float32)
  np.save(tmp_path / 'd.npy', rows)
  opened = open_workdir(workdir)

  def edited(name, *given):
    assert call('edit', f'--workdir={workdir}', '--seeds=0', f'--name={name}', *given) == 0
    return np.load(workdir / 'edits' / name / 'edited.npy')

  def expected(edit):
    return Editor(opened.generator, LAYER).images(opened.latents([0]), edit).edited

  alone = edited('mask', f'--mask={tmp_path / "mask.png"}', '--appearance=1', '--alpha=3')
  np.testing.assert_allclose(alone, expected(make_edit(opened.factors, None, 1, 3, mask=drawn / 255)), atol=1e-5)
  inside = edited('inside', f'--mask={tmp_path / "mask.png"}', *EDIT, '--threshold=0.3', '--feather=1')
  made = make_edit(opened.factors, 1, 2, 4, mask=drawn / 255, threshold=0.3, feather=1)
  np.testing.assert_allclose(inside, expected(made), atol=1e-5)
  along = edited('along', f'--directions={tmp_path / "d.npy"}', '--part=0', '--appearance=1', '--alpha=3')
  np.testing.assert_allclose(along, expected(make_edit(opened.factors, 0, 1, 3, directions=rows)), atol=1e-5)
  edited('rms', *EDIT, '--alpha_unit=rms')
  record = json.loads((workdir / 'edits' / 'rms' / 'edit.json').read_text())
  (spec,) = record['settings']['edits']['part 1, appearance 2']
  features = np.asarray(opened.generator.run_to(opened.latents(range(8)), LAYER).features)
  assert spec['rms'] == pytest.approx(np.sqrt(np.mean(features**2)), rel=1e-4)
  assert not np.array_equal(edited('refined', *EDIT, '--refined'), edited('global', *EDIT))


def test_edits_of_different_strengths_share_a_sheet(workdir, tmp_path):
  zoo = f'--zoo={tmp_path / "zoo.json"}'
  for name, alpha in (('weak', '1'), ('strong', '9'), ('swept', '-2,2')):
    given = ('--part=1', '--appearance=2', f'--alpha={alpha}', zoo, f'--annotate={name}')
    assert call('edit', f'--workdir={workdir}', '--seeds=0', *given) == 0
  for names, shape in (('weak,strong', (2,)), ('weak,swept', (2, 2))):
    assert call('edit', f'--workdir={workdir}', zoo, f'--name={names}', '--seeds=0-2') == 0
    out = workdir / 'edits' / f'{names.replace(",", "+")}-seeds0-2'
    assert np.load(out / 'edited.npy').shape == (3, *shape, 8, 8, 3)
    assert json.loads((out / 'edit.json').read_text())['strengths'] is None
    with Image.open(out / 'strip.png') as sheet:
      assert min(sheet.size) > 100
  assert call('edit', f'--workdir={workdir}', zoo, '--name=weak,swept', '--seeds=0', '--add') == 0
  assert np.load(workdir / 'edits' / 'weak+swept-seeds0-add' / 'edited.npy').shape == (1, 2, 8, 8, 3)


def test_the_zoo(workdir, fitted, tmp_path, capsys):
  zoo = f'--zoo={tmp_path / "zoo.json"}'
  assert call('edit', f'--workdir={workdir}', *EDIT, zoo, '--annotate=bright', '--name=first') == 0
  assert call('edit', f'--workdir={workdir}', zoo, '--name=bright') == 0
  first, again = (np.load(workdir / 'edits' / name / 'edited.npy') for name in ('first', 'bright'))
  np.testing.assert_array_equal(first, again)
  assert call('edit', f'--workdir={workdir}', zoo, '--name=brihgt') == 2
  assert 'did you mean bright?' in capsys.readouterr().err
  assert call('edit', f'--workdir={workdir}', zoo, '--name=bright', '--alpha=3') == 2
  assert 'the edit comes from the zoo' in capsys.readouterr().err
  factors = Factors.load(workdir / 'factors.npz')
  Factors(factors.appearances, factors.parts[:, ::-1], factors.grid, factors.provenance).save(workdir / 'factors.npz')
  assert call('edit', f'--workdir={workdir}', zoo, '--name=bright', '--overwrite') == 2
  assert 'it was annotated on other factors' in capsys.readouterr().err


def test_the_authors_directions(workdir, folder, tmp_path):
  factors = Factors.load(workdir / 'factors.npz')
  factors.save_published(tmp_path, 'net', LAYER)
  uc, us = f'Uc-name_net-layer_{LAYER}-rank_{CHANNELS}.npy', f'Us-name_net-layer_{LAYER}-rank_{PARTS}.npy'
  entry = {'parameters': [1, 2, 30], 'layer': LAYER, 'ranks': [CHANNELS, PARTS], 'checkpoints_path': [f'./a/{us}', uc]}
  (tmp_path / 'annotated.py').write_text(f'annotated_directions = { ({"net": {"eyes": entry}})!r}')
  given = (f'--generator={folder}', f'--zoo={tmp_path / "annotated.py"}', '--name=eyes', f'--out={tmp_path / "out"}')
  assert call('edit', *given, '--drop_rgb', '--seeds=3') == 0
  opened = open_workdir(workdir)
  edit = make_edit(factors, 1, 2, 30.0, convention='published')
  p = factors.parts[:, 1]
  p = (p - p.min()) / (p.max() - p.min())
  np.testing.assert_allclose(offset(edit), 30 * np.outer(p, factors.appearances[:, 2]), rtol=1e-5, atol=1e-6)
  result = Editor(opened.generator, LAYER, drop_rgb=True).images(opened.latents([3]), edit)
  np.testing.assert_allclose(np.load(tmp_path / 'out' / 'edited.npy'), result.edited, atol=1e-5)


def test_remove_writes_every_file(workdir, capsys):
  assert call('remove', f'--workdir={workdir}', '--part=1', '--seeds=4,5', '--strength=2') == 0
  out = workdir / 'edits' / 'remove-part1-strength2-seeds4_5'
  names = {'original.npy', 'edited.npy', 'difference.npy', 'edit.json', 'strip.png'}
  assert {path.name for path in out.iterdir()} == names
  record = json.loads((out / 'edit.json').read_text())
  told = record['removal']
  assert len(told['scores']) == CHANNELS
  assert f'background is appearance {told["appearance"]}' in capsys.readouterr().out
  assert told['alpha'] == pytest.approx(2 * np.median(told['alpha_per_sample']), rel=1e-5)
  opened = open_workdir(workdir)
  edit = make_edit(opened.factors, 1, told['appearance'], told['alpha'])
  expected = Editor(opened.generator, LAYER).images(opened.latents([4, 5]), edit)
  np.testing.assert_allclose(np.load(out / 'edited.npy'), expected.edited, atol=1e-5)


def test_remove_takes_a_drawn_mask_in_place_of_a_part(workdir, tmp_path, capsys):
  grid = open_workdir(workdir).factors.grid
  drawn = np.zeros(grid, np.uint8)
  drawn[1:3, 1:3] = 255
  Image.fromarray(drawn).save(tmp_path / 'nose.png')
  assert call('remove', f'--workdir={workdir}', f'--mask={tmp_path / "nose.png"}', '--seeds=4,5') == 0
  assert 'of the mask, before' in capsys.readouterr().out
  out = workdir / 'edits' / 'remove-seeds4_5-mask-nose'
  record = json.loads((out / 'edit.json').read_text())
  assert record['settings']['part'] is None
  opened, told = open_workdir(workdir), record['removal']
  edit = make_edit(opened.factors, None, told['appearance'], told['alpha'], mask=drawn / 255)
  expected = Editor(opened.generator, LAYER).images(opened.latents([4, 5]), edit)
  np.testing.assert_allclose(np.load(out / 'edited.npy'), expected.edited, atol=1e-5)
  assert call('remove', f'--workdir={workdir}', '--seeds=4') == 2
  assert 'part: not given' in capsys.readouterr().err


MISTAKES = [
  (('edit',), 'workdir: not given'),
  (('edit', '--workdir=none'), 'workdir=none: there is no such folder'),
  (('edit', 'W'), 'alpha: not given'),
  (('edit', 'W', '--part=1', '--alpha=1'), f'appearance: not given; give one from 0 to {CHANNELS - 1}'),
  (('edit', 'W', '--appearance=1', '--alpha=1'), f'part: not given; give one from 0 to {PARTS - 1}'),
  (('edit', 'W', '--part=3', '--appearance=1', '--alpha=1'), 'part=3: there are 3 parts; give one from 0 to 2'),
  (('edit', 'W', '--part=-1', '--appearance=1', '--alpha=1'), 'part=-1: there are 3 parts'),
  (('edit', 'W', '--part=one', '--appearance=1', '--alpha=1'), 'part=one: not a whole number'),
  (('edit', 'W', '--part=0', '--appearance=5', '--alpha=1'), 'appearance=5: there are 5 appearances; give one from 0'),
  (('edit', 'W', '--part=0/1/2', '--appearance=1/2', '--alpha=1'), 'appearance=1/2: there are 2 of them for 3 edits'),
  (('edit', 'W', '--part=0', '--appearance=1', '--alpha=nan'), 'alpha=nan: it is not finite'),
  (('edit', 'W', '--part=0', '--appearance=1', '--alpha=1,inf'), 'alpha=1,inf: it is not finite'),
  (('edit', 'W', '--part=0', '--appearance=1', '--alpha=much'), 'alpha=much: not a number'),
  (('edit', 'W', *EDIT, '--seeds=0,x'), 'seeds=0,x: not a list of whole numbers'),
  (('edit', 'W', '--part=0/1', '--appearance=1', '--alpha=1/2/3'), 'part=0/1: there are 2 of them for 3 edits'),
  (('edit', 'W', '--part=0/1', '--appearance=1', '--alpha=3/x'), 'alpha=3/x: x is not a number; give --alpha=3'),
  (('edit', 'W', '--part=0', '--appearance=0,1,2', '--alpha=3'), 'give --appearance=0/1/2 for 3 edits'),
  (('edit', 'W', '--part=0', '--appearance=0,x', '--alpha=3'), 'appearance=0,x: not a whole number'),
  (('edit', 'W', '--part=0/', '--appearance=1', '--alpha=3'), 'part=0/: nothing is not a whole number'),
  (('edit', 'W', '--part=1/1', '--appearance=2', '--alpha=3'), 'part=1/1: part 1, appearance 2 is asked for twice'),
  (('edit', 'W', *EDIT, '--seeds=5-3'), 'seeds=5-3'),
  (('edit', 'W', *EDIT, '--seeds=0-99999999999'), 'seeds=0-99999999999: more than 10,000,000 of them'),
  (('edit', 'W', *EDIT, f'--seeds=0-{10**30}'), 'not a list of whole numbers'),
  (('edit', 'W', *EDIT, '--seeds=4294967296'), 'seeds=4294967296: a seed is a number from 0'),
  (('edit', 'W', *EDIT, '--labels=1'), 'this generator is unconditional'),
  (('edit', 'W', *EDIT, '--noise=random'), '--noise=random: there is no such choice; give one of const, none'),
  (('edit', 'W', *EDIT, '--convention=own'), 'convention'),
  (('edit', 'W', *EDIT, '--mask=tests/data/features.npy'), 'it is not a PNG'),
  (('edit', 'W', *EDIT, '--threshold=2'), 'threshold=2.0: it is a fraction'),
  (('edit', 'W', *EDIT, '--directions=tests/data/features.npy'), 'directions=tests/data/features.npy: it has 4 dim'),
  (('edit', 'W', *EDIT, '--generator=none'), 'generator=none: there is no such folder'),
  (('edit', 'W', *EDIT, '--out=/proc/nowhere'), 'error: --out=/proc/nowhere: it cannot be written'),
  (('edit', 'W', *EDIT, '--zoo=none.json'), 'part=1: the edit comes from the zoo'),
  (('edit', 'W', '--zoo=none.json', '--name=x'), 'zoo=none.json: it cannot be read'),
  (('edit', 'W', *EDIT, '--annotate=x'), 'annotate=x: there is no zoo to write to'),
  (('edit', 'W', *EDIT, '--alhpa=3'), 'did you mean --alpha?'),
  (('fit', 'W', '--part=3'), '--part=3: fit has no such flag; it is a flag of edit, remove; did you mean --parts?'),
  (('sample', '--alpha=3'), '--alpha=3: sample has no such flag'),
  (('remove', 'W'), 'part: not given'),
  (('remove', 'W', '--part=7'), 'part=7: there are 3 parts'),
  (('remove', 'W', '--part=0', '--appearance=5'), 'appearance=5: there are 5'),
  (('remove', 'W', '--part=0', '--strength=inf'), 'it is not finite'),
  (('report',), 'workdir: not given'),
]


@pytest.mark.parametrize(('arguments', 'said'), MISTAKES, ids=[' '.join(arguments) for arguments, _ in MISTAKES])
def test_a_mistake_costs_one_line(fitted, capsys, arguments, said):
  there = sorted(path.name for path in fitted.iterdir())
  assert call(*(f'--workdir={fitted}' if a == 'W' else a for a in arguments)) == 2
  lines = capsys.readouterr().err.strip().splitlines()
  assert [line for line in lines if line.startswith('error: ')] == [lines[-1]]
  assert said in lines[-1]
  assert sorted(path.name for path in fitted.iterdir()) == there


def shown_on(page):
  return html.unescape(re.sub('<[^>]*>', '', page.read_text()))


def test_a_fit_ends_with_what_to_do_next_and_the_report_says_the_same(folder, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr('rich.console.Console.is_terminal', False)
  path = tmp_path / "a fit of o'cats"
  given = (f'--generator={folder}', f'--layer={LAYER}', '--samples=8', f'--parts={PARTS}', '--config.restarts=2')
  assert call('fit', f'--workdir={path}', *given) == 0
  lines = capsys.readouterr().err.splitlines()
  assert [line for line in lines if 'budget' in line] == []
  assert [line for line in lines if line.startswith('features of ')] == lines[:1]
  following = [line.partition(': ')[2] for line in lines[-2:]]
  assert [line[:5] for line in lines[-2:]] == ['next:', '  or:']
  for line in following:
    python, run_py, *words = shlex.split(line)
    assert (python, run_py) == ('python', 'run.py')
    assert call(*words) == 0
  page = shown_on(path / 'report.html')
  assert following[0] in page
  assert following[1] in page
  features = Editor(open_workdir(path).generator, LAYER).state(open_workdir(path).latents(range(5))).features
  usual = np.sqrt(np.square(features).sum(axis=-1).mean())
  strength = json.loads((path / 'summary.json').read_text())['strength']
  assert 1.2 * usual < strength < 2 * usual  # it depends on the generator's features, not on a constant
  assert f'--alpha=-{strength:g},0,{strength:g} ' in following[0]
  record = json.loads(next(path.glob('edits/*/edit.json')).read_text())
  assert record['settings']['edits']['part 0, appearance 0'][0]['alpha'] == [-strength, 0, strength]


@pytest.mark.parametrize('said', ['much', None, True, [3], -1.0, 0])
def test_a_report_of_a_fit_without_a_usable_strength(workdir, said):
  summary = json.loads((workdir / 'summary.json').read_text())
  summary['strength'] = said
  (workdir / 'summary.json').write_text(json.dumps(summary))
  assert call('report', f'--workdir={workdir}') == 0
  assert '--alpha=-3,0,3 ' in shown_on(workdir / 'report.html')


def test_pictures_of_coordinates_look_alike_and_say_what_they_show(folder, tmp_path, monkeypatch):
  drawn, plain = [], maps.draw_saliency

  def kept(path, images, coordinates, **options):
    drawn.append((coordinates, options))
    plain(path, images, coordinates, **options)

  monkeypatch.setattr(maps, 'draw_saliency', kept)
  path = tmp_path / 'fit'
  given = (f'--generator={folder}', f'--layer={LAYER}', '--samples=8', f'--parts={PARTS}', '--config.restarts=2')
  assert call('fit', f'--workdir={path}', *given) == 0
  assert call('saliency', f'--workdir={path}', '--appearance=0,2', '--seeds=0-4', '--samples=5') == 0
  assert call('saliency', f'--workdir={path}', '--appearance=1', '--seeds=3', '--threshold=otsu', '--samples=5') == 0
  assert call('saliency', f'--workdir={path}', '--appearance=1', '--threshold=0.5', '--name=half', '--samples=5') == 0
  (whole, of_fit), (some, of_some), (_, of_otsu), (_, of_half) = drawn
  np.testing.assert_allclose(whole[..., [0, 2]], some, atol=1e-5)  # the same samples, the same numbers
  np.testing.assert_allclose(np.take(of_fit['thresholds'], [0, 2]), of_some['thresholds'], atol=1e-5)
  assert of_fit['names'] == of_some['names'] == [f'seed {t}' for t in range(5)]
  for options, whose, white in (
    (of_fit, 'the first appearances', 'the mean over these samples'),
    (of_some, 'appearances 0, 2', 'the mean over 5 samples of the generator'),
    (of_otsu, 'appearance 1', "Otsu's threshold of 5 samples of the generator"),
    (of_half, 'appearance 1', 'the threshold given'),
  ):
    assert options['title'] == f'Coordinates of {whose}: red is above, blue below {white}.'


NAMES = {  # default names of folders
  ('edit', *EDIT): 'part1-appearance2-alpha4',
  ('edit', *EDIT, '--seeds=0-3', '--threshold=0.3', '--refined'): (
    'part1-appearance2-alpha4-seeds0-3-threshold0.3-refined'
  ),
  ('edit', *EDIT, '--latents=a/w.npy', '--space=w'): 'part1-appearance2-alpha4-latents-w-space-w',
  ('edit', *EDIT, '--labels=207', '--noise=none'): 'part1-appearance2-alpha4-labels207-noise-none',
  ('edit', *EDIT, '--labels=a/b/c.npy', '--feather=1.5'): 'part1-appearance2-alpha4-feather1.5-labels-c',
  ('edit', *EDIT, '--convention=paper', '--mask=eyes.png'): 'part1-appearance2-alpha4-paper-mask-eyes',
}


@pytest.mark.parametrize('words', NAMES, ids=' '.join)
def test_names_of_folders_tell_what_was_asked_for(words):
  _, options, _ = program.parse(['run.py', *words])
  assert requests.file_name(requests._default_name(['part 1, appearance 2'], options)) == NAMES[words]


def test_long_names_of_folders_differ_to_the_end():
  names = [requests.file_name(f'seeds{"0_" * 200}{last}') for last in (1, 2)]
  assert len({*names}) == 2
  assert [len(name) for name in names] == [requests.LONGEST_NAME] * 2
  assert requests.file_name('eyes/wide\n') == 'eyes_wide_'


def test_other_samples_go_to_other_folders(workdir, tmp_path, capsys):
  np.save(tmp_path / 'w.npy', np.zeros((2, 8), np.float32))
  for words in (
    ('edit', *EDIT),
    ('remove', '--part=1', '--samples=4'),
    ('refine', '--seeds=0-3'),
    ('saliency', '--appearance=0', '--samples=4', '--seeds=0-1'),
  ):
    assert call(words[0], f'--workdir={workdir}', *words[1:]) == 0
    given = (f'--latents={tmp_path / "w.npy"}', '--space=w')
    assert call(words[0], f'--workdir={workdir}', *[w for w in words[1:] if 'seeds' not in w], *given) == 0
  found = {str(path.relative_to(workdir)) for path in (*workdir.glob('edits/*'), *workdir.glob('[rs]*-*/'))}
  found |= {'refine'} & {path.name for path in workdir.iterdir()}
  assert found == {
    *('edits/part1-appearance2-alpha4', 'edits/part1-appearance2-alpha4-latents-w-space-w'),
    *('edits/remove-part1-samples4', 'edits/remove-part1-latents-w-space-w-samples4'),
    *('refine-0+1+2+3', 'refine-latents-w-space-w'),
    *('saliency-0-samples4-seeds0-1', 'saliency-0-samples4-latents-w-space-w'),
  }


@pytest.mark.slow
def test_in_a_process_of_its_own(workdir):
  done = process('edit', f'--workdir={workdir}', *EDIT, '--seeds=1')
  assert done.returncode == 0, done.stderr
  assert 'edited.npy  1 x 8 x 8 x 3' in done.stdout
  record = json.loads((workdir / 'edits' / 'part1-appearance2-alpha4-seeds1' / 'edit.json').read_text())
  assert record['command'].startswith('python run.py edit --workdir=')
  wrong = process('edit', f'--workdir={workdir}', '--part=9', '--appearance=0', '--alpha=1')
  assert (wrong.returncode, wrong.stderr.count('\n')) == (2, 1)
