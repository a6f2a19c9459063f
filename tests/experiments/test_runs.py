"""`panda-jax runs`: the table in all formats, the page, and folders that are not runs."""

import csv
import io
import json
import re

import numpy as np
import pytest

from panda_jax.experiments import agreement
from panda_jax.experiments.page import columns_of, together
from panda_jax.experiments.runs import found, series
from tests.commands.calls import run
from tests.experiments.conftest import finished, parts


def test_a_table_for_other_programs(folder):
  done = run('runs', folder, '--format=csv', '--sort=held_out', '--nopage')
  assert done.returncode == 0, done.stderr
  rows = [*csv.DictReader(io.StringIO(done.stdout))]
  assert [*rows[0]][:4] == ['run', 'layer', 'parts', 'seed']
  assert len(rows) == 10
  held_out = [float(row['held_out']) for row in rows[:8]]
  assert held_out == sorted(held_out)
  assert [row['state'] for row in rows[-2:]] == ['failed', 'unfinished']
  assert rows[-2]['problem'] == 'parts=99: too | many'
  assert float(rows[0]['seeds']) == pytest.approx(1)  # the same parts in another order
  assert not (folder / 'runs.html').exists()
  again = json.loads(run('runs', folder, '--format=json', '--sort=-parts', '--nopage').stdout)
  assert [row['parts'] for row in again] == [4, 4, 3, 3, 3, 3, 2, 2, 2, 2]
  assert again[2]['memory'] == 3
  assert again[2]['halves'] is None


def test_a_setting_called_like_a_figure_has_a_column_of_its_own(tmp_path):
  for held_out in (5, 6):
    finished(tmp_path / str(held_out), parts(2), 0.3, held_out=0.25)
    config = json.loads((tmp_path / str(held_out) / 'config.json').read_text())
    (tmp_path / str(held_out) / 'config.json').write_text(json.dumps(config | {'held_out': held_out}))
  rows = json.loads(run('runs', tmp_path, '--format=json', '--nopage').stdout)
  assert [(row['held_out_samples'], row['held_out']) for row in rows] == [(5, 0.25), (6, 0.25)]


def test_a_table_for_people(folder):
  markdown = run('runs', folder, '--format=markdown', '--nopage').stdout.splitlines()
  assert markdown[0].startswith('| run | layer | parts | seed | error | held_out | seeds | zeros |')
  assert {line.replace('\\|', '').count('|') for line in markdown} == {markdown[0].count('|')}
  done = run('runs', folder, '--nopage')
  assert done.returncode == 0
  assert 'layer=3,parts=2,seed=0' in done.stdout
  assert re.search(r'^layer=5: No best number is known up to 3: parts still pay', done.stdout, re.MULTILINE)


def test_the_page_is_whole(folder):
  done = run('runs', folder)
  assert done.stderr.strip() == str(folder / 'runs.html')
  page = (folder / 'runs.html').read_text()
  assert '<script' not in page
  assert 'http' not in page.replace('http-equiv', '')
  for name in ('choice', 'curves', 'runs', 'parts'):
    assert f'<section id={name}>' in page
  assert page.count('part 1 of layer=5,parts=3,seed=1') == 2  # the picture's alternative text and title
  assert re.search(r'title="part 2 of layer=5,parts=3,seed=1"[^>]*>2</td>', page)  # the number that --part takes
  assert 'too | many' in page
  assert run('runs', folder, folder / 'failing', '--format=csv').returncode == 0  # a repeated run counts once


def test_one_run_is_a_table_too(tmp_path):
  finished(tmp_path / 'one', parts(2), 0.3)
  done = run('runs', tmp_path / 'one')
  assert done.returncode == 0, done.stderr
  assert 'error' in done.stdout
  assert 'no runs differ in parts alone; sweep several' in done.stdout


MISTAKES = [
  ((), 'folder: not given'),
  (('nowhere',), 'there is no such folder'),
  (('EMPTY',), 'there is no run in it, nor below it'),
  (('FILE',), 'it is a file'),
  (('FOLDER', 'EMPTY'), 'there is no run in it'),
  (('FOLDER', '--sort=eror'), 'there is no such column; did you mean error?'),
  (('FOLDER', '--format=tex'), 'there is no such choice'),
]


@pytest.mark.parametrize(('words', 'said'), MISTAKES, ids=[' '.join(words) for words, _ in MISTAKES])
def test_a_mistake_costs_one_line(folder, words, said):
  (folder / 'empty').mkdir()
  (folder / 'file').write_text('')
  places = {'EMPTY': folder / 'empty', 'FILE': folder / 'file', 'FOLDER': folder}
  done = run('runs', *(places.get(word, word) for word in words))
  assert done.returncode == 2
  assert said in done.stderr
  assert done.stderr.count('\n') == 1
  assert done.stdout == ''


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('summary.json', '{'),
    ('summary.json', '{"relative_error": "small"}'),
    ('config.json', '[]'),
    ('config.json', None),
    ('failure.json', '{"error": 3}'),
  ],
)
def test_damaged_records_are_told_in_the_table(folder, name, content):
  place = folder / ('failing' if name == 'failure.json' else 'layer=3,parts=2,seed=0')
  if content is None:
    (place / name).unlink()
  else:
    (place / name).write_text(content)
  rows = json.loads(run('runs', folder, '--format=json', '--nopage').stdout)
  [row] = [row for row in rows if row['run'] == place.name]
  assert row['state'] == 'failed'
  assert 'cannot be read' in row['problem']
  assert len(rows) == 10


def test_damaged_factors_cost_one_line(folder):
  (folder / 'layer=3,parts=2,seed=0' / 'factors.npz').write_bytes(b'PK')
  done = run('runs', folder)
  assert done.returncode == 2
  assert done.stderr.startswith('error: factors=')
  assert done.stderr.count('\n') == 1


def test_parts_agree_in_any_order_and_scale():
  P = parts(5, seed=1)
  assert agreement.agreement(P, 3 * P[:, ::-1]) == pytest.approx(1)
  assert agreement.agreement(P, P[:, :4]) == pytest.approx(0.8)
  # a greedy match would give the first part the second's: 0.8 + 0 < 0.6 + 0.6
  P, Q = np.array([[1, 0.6], [0, 0.8]]), np.array([[0.8, 0.6], [0.6, 0.8]])
  cosine = agreement.cosines(P, Q)
  rows, columns, _ = agreement.matches(P, Q)
  best = max(cosine[0, 0] + cosine[1, 1], cosine[0, 1] + cosine[1, 0])
  assert cosine[rows, columns].sum() == pytest.approx(best)
  assert agreement.overlap(P) == pytest.approx(0.6)
  assert agreement.overlap(parts(4)) == 0
  assert agreement.overlap(parts(1)) == 0
  assert agreement.zeros(parts(4)) == 0.75


def test_dead_parts_agree_with_nothing():
  P = parts(3)
  P[:, 1] = 0
  assert agreement.agreement(P, P) == pytest.approx(2 / 3)


def test_halves_are_compared(tmp_path):
  for half, seed in (('none', 0), ('first', 1), ('second', 1)):
    finished(tmp_path / half, parts(3, seed), 0.3, half=half)
  runs = found([tmp_path])
  assert agreement.between_halves(runs) == pytest.approx(1)
  assert agreement.between_halves(runs[:2]) is None


def test_a_series_is_called_by_what_is_set(tmp_path):
  finished(tmp_path / 'file', parts(2), 0.1)
  finished(tmp_path / 'generator', parts(2), 0.1, features=None, generator='cats64', layer=5)
  assert [*series(found([tmp_path]))] == ['features=z.npy', 'generator=cats64, layer=5']


def test_parts_of_runs_stand_below_those_that_they_are_like(tmp_path):
  P = parts(4, seed=2)
  finished(tmp_path / 'a', P[:, [2, 0, 3, 1]], 0.1)
  finished(tmp_path / 'b', P[:, :2], 0.2)
  finished(tmp_path / 'c', np.stack([P[:, 3], np.roll(P[:, 0], 1)], axis=1), 0.2, seed=3)
  placed, count = columns_of(found([tmp_path]))
  assert placed[0][:4] == [0, 1, 2, 3]
  assert placed[1][:4] == [None, 0, None, 1]
  assert placed[2][2] == 0
  assert count in (4, 5)  # the last part of c resembles another one by chance, or has its own column


def test_parts_of_many_are_told_apart_by_colour(tmp_path):
  finished(tmp_path / 'many', np.eye(16)[:, :15], 0.1)
  [run] = found([tmp_path])
  pixels = together(run.maps, range(15)).reshape(-1, 3)
  assert len(np.unique(pixels, axis=0)) == 16  # and white outside of all parts
