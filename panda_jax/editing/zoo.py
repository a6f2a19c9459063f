"""Named edits: a zoo is a JSON file of edits that holds the hash of their factors.

An index means nothing without the factors it was read off: an edit from a zoo runs only on factors with its hash.
"""

import base64
import binascii
import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from panda_jax.editing.edits import AnyEdit, Edit, compose, make_edit
from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.files.lock import awaited
from panda_jax.files.records import misfit, read_json
from panda_jax.solver.factors import Factors, digest_of

FORMAT = 1
CATALOG = 'catalog.json'  # the zoo that a catalog writes, in a folder of its own
NAMES = 'names.json'  # beside it: titles of its edits, which a user may change
LONGEST_NAME = 120  # letters
ZOO = {  # the form of a zoo; `Spec.from_json` checks its terms
  'format': int,
  'edits': {
    str: {
      'terms': [dict],
      'factors?': str,
      'layer?': (int, str, None),
      'note?': str,
      'title?': str,
      'scores?': (dict, None),
    },
  },
}


@dataclasses.dataclass(frozen=True)
class Spec:
  """The arguments of `make_edit` for one edit, as JSON values.

  Attributes:
    part: 0-based parts joined to one mask; empty for `mask` alone.
    appearance, alpha, convention, alpha_unit, rms, combine, threshold, feather: as of `make_edit`.
    mask: drawn, S numbers, or None.
    direction: C numbers in place of the appearance, or None.
  """

  part: tuple[int, ...] = ()
  appearance: int | None = None
  alpha: float | tuple[float, ...] = 1.0
  convention: str = 'unit'
  alpha_unit: str = 'feature'
  rms: float | None = None
  combine: str | None = None
  threshold: float | None = None
  feather: float | None = None
  mask: tuple[float, ...] | None = None
  direction: tuple[float, ...] | None = None

  def edit(self, factors: Factors, parts: np.ndarray | None = None) -> AnyEdit:
    """The edit, with these factors; `parts` (N, S, R_S) in place of their own."""
    directions = None if self.direction is None else np.asarray(self.direction, np.float32)[None]
    return make_edit(
      factors,
      list(self.part) or None,
      0 if directions is not None else cast(int, self.appearance),  # `make_edit` refuses None
      self.alpha,
      convention=self.convention,
      alpha_unit=self.alpha_unit,
      rms=self.rms,
      mask=None if self.mask is None else np.asarray(self.mask, np.float32),
      combine=self.combine,
      threshold=self.threshold,
      feather=self.feather,
      parts=parts,
      directions=directions,
    )

  def to_json(self) -> dict[str, Any]:
    """A dict for json.dumps, without values that are at their defaults; masks and directions are packed as float32."""
    values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
    values = {name: list(x) if isinstance(x, tuple) else x for name, x in values.items()}
    return values | {name: _packed(values[name]) for name in ('mask', 'direction') if name in values}

  @classmethod
  def from_json(cls, values: Any) -> 'Spec':
    """The inverse of `to_json`.

    Raises:
      InputError: it is not a dict that `to_json` makes.
    """
    names = {f.name for f in dataclasses.fields(cls)}
    if not isinstance(values, dict) or set(values) - names:
      unknown = ', '.join(sorted(map(str, set(values) - names))) if isinstance(values, dict) else type(values).__name__
      raise InputError('zoo', unknown, 'no part of an edit', f'an edit has {", ".join(sorted(names))}')
    for name in ('convention', 'alpha_unit', 'combine'):
      if not isinstance(values.get(name, ''), str | None):
        raise InputError(name, str(values[name])[:20], 'it is not a text', 'write it with --annotate')
    values = dict(values)
    for name in ('mask', 'direction'):
      if name in values:
        values[name] = _unpacked(values[name], name)
    part = values.get('part', [])
    values['part'] = whole_numbers(part if isinstance(part, list) else [part], 'part')
    if values.get('direction') is None:
      values['appearance'] = whole_numbers([values.get('appearance')], 'appearance')[0]
    alpha = values.get('alpha', 1.0)
    if not all(is_number(x) for x in (alpha if isinstance(alpha, list) else [alpha])):
      raise InputError('alpha', alpha, 'it is not a number', 'give a number, or a list of them')
    values['alpha'] = tuple(alpha) if isinstance(alpha, list) else alpha
    for name in ('rms', 'threshold', 'feather'):
      if values.get(name) is not None and not is_number(values[name]):
        raise InputError(name, values[name], 'it is not a number', 'give a number')
    return cls(**values)


@dataclasses.dataclass(frozen=True)
class NamedEdit:
  """An edit of a zoo.

  Attributes:
    factors: hash of the factors that it was annotated on, see `solver.factors.digest_of`.
    layer: the layer of the factors, or None.
    terms: edits that are added up.
    note: what the edit does, in the user's words.
    scores: measurements of the edit, JSON values; kept as they are.
    title: in words, beside its name; '' for none.
  """

  factors: str
  layer: int | None
  terms: tuple[Spec, ...]
  note: str = ''
  scores: Mapping[str, Any] | None = None
  title: str = ''

  def check(self, digest: str, name: str = '') -> None:
    """Raises InputError unless `digest` is the hash of its factors."""
    if digest != self.factors:
      found = f'{self.factors[:12]}…' if self.factors else 'unknown'
      problem = f'it was annotated on other factors (hash {found}, these have {digest[:12]}…)'
      raise InputError('name', name, problem, 'give the workdir of the fit it was annotated on, or annotate it again')

  def edit(self, factors: Factors, digest: str, name: str = '') -> AnyEdit:
    """The edit; `digest` is the hash of `factors`."""
    self.check(digest, name)
    edits = [spec.edit(factors) for spec in self.terms]
    return edits[0] if len(edits) == 1 else compose(edits)


def read_zoo(path: str | os.PathLike) -> dict[str, NamedEdit]:
  """The edits in a JSON file that `write_zoo` wrote, by name. Those of a catalog have the titles of its names.json.

  Raises:
    InputError: the file is missing, is too large, or is not a zoo; or names.json is damaged.
  """
  zoo, path = _entries(path), Path(path)
  names = read_names(path.with_name(NAMES)) if path.name == CATALOG else {}
  return {name: dataclasses.replace(one, title=names.get(name, one.title)) for name, one in zoo.items()}


def _entries(path: str | os.PathLike) -> dict[str, NamedEdit]:
  """The edits of a zoo, without titles from names.json."""
  remedy = 'give a file that --annotate wrote'
  content = read_json(path, 'zoo', object, remedy)
  wrong = misfit(content, ZOO) or (content['format'] != FORMAT and f'its format is not {FORMAT}')
  if wrong:
    raise InputError('zoo', path, f'it is not a zoo of edits ({wrong})', remedy)
  zoo = {}
  for name, entry in content['edits'].items():
    if not entry['terms']:
      raise InputError('zoo', path, f'{name[:60]!r} is not an edit', 'write it with --annotate')
    try:
      terms = tuple(Spec.from_json(term) for term in entry['terms'])
    except InputError as error:
      raise InputError(
        'zoo', path, f'{name[:60]!r}: {error.argument}={str(error.value)[:60]}: {error.problem}', error.remedy
      ) from error
    layer, scores = entry.get('layer'), entry.get('scores')
    zoo[name] = NamedEdit(entry.get('factors', ''), layer, terms, entry.get('note', ''), scores, entry.get('title', ''))
  return zoo


def write_zoo(path: str | os.PathLike, zoo: Mapping[str, NamedEdit]) -> None:
  """Writes a zoo atomically."""
  edits: dict[str, dict[str, Any]] = {}
  for name, named in zoo.items():
    edits[name] = {'factors': named.factors, 'layer': named.layer, 'terms': [spec.to_json() for spec in named.terms]}
    for key, text in (('title', named.title), ('note', named.note)):
      if text:
        edits[name][key] = text
    if named.scores:
      edits[name]['scores'] = dict(named.scores)
  text = json.dumps({'format': FORMAT, 'edits': edits}, indent=2, allow_nan=False) + '\n'
  write_atomically(path, text.encode(), 'zoo')


def read_names(path: str | os.PathLike) -> dict[str, str]:
  """Titles of edits, by their names in the catalog; {} where the file does not exist.

  Raises:
    InputError: it cannot be read, or is not a file of names.
  """
  remedy = 'correct it, or delete it for the names that the catalog gives'
  if not os.path.lexists(path):
    return {}
  names = read_json(path, 'names', {'format': int, 'names': {str: str}}, remedy)['names']
  for name in names.values():
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or ',' in name:
      problem = f'{name[:40]!r} is empty, has a comma, or over {LONGEST_NAME} letters'
      raise InputError('names', path, problem, remedy)
  return names


def write_names(path: str | os.PathLike, names: Mapping[str, str]) -> None:
  """Writes titles of edits atomically."""
  text = json.dumps({'format': FORMAT, 'names': dict(names)}, indent=2, ensure_ascii=False) + '\n'
  write_atomically(path, text.encode(), 'names')


def own_names(folder: str | os.PathLike, digest: str) -> dict[str, str]:
  """Titles in a catalog's folder that a user gave, which a new catalog keeps; {} if they are for other factors.

  Raises:
    InputError: names.json is damaged.
  """
  names, given = read_names(Path(folder) / NAMES), {}
  if names:
    with contextlib.suppress(InputError):  # a new catalog replaces one that cannot be read
      given = _entries(Path(folder) / CATALOG)
  if any(one.factors != digest for one in given.values()) or not given:
    return {}
  return {name: title for name, title in names.items() if name not in given or title != given[name].title}


def annotate(path: str | os.PathLike, name: str, named: NamedEdit, overwrite: bool = False) -> None:
  """Adds an edit to a zoo, which is created if it does not exist. Processes that do so at the same time take turns.

  Raises:
    InputError: another edit has this name and `overwrite` is not set, or another process keeps the zoo for long.
  """
  folder = Path(path).parent
  with (
    awaited(folder, 'zoo') if folder.is_dir() else contextlib.nullcontext()
  ):  # without a folder, writing the zoo raises the error
    zoo = _entries(path) if os.path.lexists(path) else {}
    if name in zoo and zoo[name] != named and not overwrite:
      raise InputError('annotate', name, f'another edit of {path} has this name', 'choose another or use --overwrite')
    write_zoo(path, zoo | {name: named})


def spec_of(edit: Edit) -> Spec:
  """The arguments that make the same edit again: its recipe with its present strength, or else its direction and mask.

  Raises:
    InputError: the edit has a mask for each sample, which a file of edits cannot hold.
  """
  if edit.recipe is not None:
    factors, arguments = edit.recipe
    for changes in ({}, {'alpha': edit.alpha, 'alpha_unit': 'feature', 'rms': None}):
      spec = _spec({**arguments, **changes})
      if spec is not None and _same(spec.edit(factors), edit):
        return spec
  if np.ndim(edit.mask) != 1:
    raise InputError(
      'mask', f'shape {np.shape(edit.mask)}', 'it has one for each sample', 'save the edit with the parts of the fit'
    )
  mask, direction = (tuple(np.asarray(x, np.float32).tolist()) for x in (edit.mask, edit.direction))
  return Spec((), None, _strengths(edit.alpha), 'paper', mask=mask, direction=direction)


def _spec(arguments: Mapping[str, Any]) -> Spec | None:
  """Arguments of `make_edit` as JSON values; None where they hold refined parts."""
  given = dict(arguments)
  parts, part, mask, rows = (given.pop(name, None) for name in ('parts', 'part', 'mask', 'directions'))
  if parts is not None:
    return None
  numbers = () if part is None else tuple(int(k) for k in np.atleast_1d(part))
  given['alpha'] = _strengths(given['alpha'])
  if rows is not None:
    row = np.asarray(rows, np.float32)[given.pop('appearance')]
    given |= {'appearance': None, 'direction': tuple(row.tolist())}
  else:
    given['appearance'] = int(given['appearance'])
  if mask is not None:
    if np.ndim(mask) != 1 and np.size(mask) != np.shape(mask)[-1] * np.shape(mask)[-2]:
      return None
    given['mask'] = tuple(np.asarray(mask, np.float32).reshape(-1).tolist())
  for name in ('rms', 'threshold', 'feather'):
    if given.get(name) is not None:
      given[name] = float(given[name])
  return Spec(numbers, **given)


def _strengths(alpha) -> float | tuple[float, ...]:
  numbers = np.asarray(alpha).tolist()
  return tuple(float(x) for x in numbers) if isinstance(numbers, list) else float(numbers)


def _same(one: AnyEdit, two: Edit) -> bool:
  pairs = ((getattr(one, name), getattr(two, name)) for name in ('direction', 'mask', 'alpha'))
  return all(np.array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32)) for a, b in pairs)


def save_edit(
  edit: AnyEdit,
  path: str | os.PathLike,
  name: str,
  factors: Factors | None = None,
  note: str = '',
  overwrite: bool = False,
) -> None:
  """Adds an edit to a zoo; see `Edit.save`, which calls this."""
  if not isinstance(name, str) or not name:
    raise InputError('name', name, 'it is not a name', "give a text such as 'eyes'")
  if factors is not None:
    made_of = [factors]
  else:
    made_of = [term.recipe.factors for term in edit.terms if term.recipe is not None]
    if len(made_of) < len(edit.terms):
      raise InputError(
        'factors', None, 'the edit does not say which factors it is for', 'give factors=, those of the fit'
      )
  digests = {digest_of(one) for one in made_of}
  if len(digests) > 1:
    raise InputError('factors', f'{len(digests)} of them', 'the edits are of different factors', 'save them one by one')
  terms = []
  for term in edit.terms:
    if factors is not None and term.recipe is not None and digest_of(term.recipe.factors) not in digests:
      term = dataclasses.replace(term, recipe=None)  # its indices refer to other factors
    terms.append(spec_of(term))
  named = NamedEdit(digests.pop(), made_of[0].provenance.get('layer'), tuple(terms), note)
  known = _entries(path) if os.path.lexists(path) else {}
  if name in known and known[name] != named and not overwrite:
    raise InputError('name', name, f'another edit of {path} has this name', 'give another, or overwrite=True')
  write_zoo(path, known | {name: named})


def load_edit(path: str | os.PathLike, name: str | None = None, factors: Factors | None = None) -> AnyEdit:
  """An edit that `Edit.save`, `--annotate` or the catalog wrote.

  Args:
    path: of the JSON file.
    name: of the edit; may be left out where there is one only.
    factors: those it was saved with. Only an edit that holds its own direction and mask can do without.

  Raises:
    InputError: no such file or name; other factors (by their hash), or none where they are needed.

  Example:
    >>> panda_jax.make_edit(factors, part=0, appearance=1, alpha=2).save('edits.json', name='wink')
    >>> panda_jax.load_edit('edits.json', 'wink', factors)
    Edit(direction (3,), mask (16,), alpha 2.)
  """
  zoo = read_zoo(path)
  if name is None and len(zoo) == 1:
    name = next(iter(zoo))
  named = chosen(zoo, name, path)
  if factors is not None:
    return named.edit(factors, digest_of(factors), name)
  edits = [edit for spec in named.terms if (edit := _by_itself(spec)) is not None]
  if len(edits) < len(named.terms):
    remedy = f'give factors=, those of hash {named.factors[:12]}…'
    raise InputError('factors', None, f'{name!r} names parts and appearances by number', remedy)
  return edits[0] if len(edits) == 1 else compose(edits)


def _by_itself(spec: Spec) -> Edit | None:
  """The edit, if the spec holds its direction and mask; None if it needs factors."""
  own = Spec((), None, spec.alpha, 'paper', mask=spec.mask, direction=spec.direction)
  if spec != own or spec.mask is None or spec.direction is None:
    return None
  direction, mask, alpha = (np.asarray(x, np.float32) for x in (spec.direction, spec.mask, spec.alpha))
  return Edit(direction, mask, alpha)


def chosen(zoo: Mapping[str, Any], name: str | None, path: str | os.PathLike = '') -> Any:
  """The entry with this name or title. The generator in 'generator/name' may be left out where the name is unique.

  Dots and spaces between the words of a title may be left out: "nose darker" is "nose · darker".

  Raises:
    InputError: there is none, or several.
  """
  import difflib

  if name is not None and name in zoo:
    return zoo[name]
  found = [full for full in zoo if full.rpartition('/')[2] == name]
  if len(found) == 1:
    return zoo[found[0]]
  if found:
    raise InputError('name', name, 'several generators have it', f'give one of {", ".join(found)}')
  titles = {key: title for key, entry in zoo.items() if (title := getattr(entry, 'title', ''))}
  called = [key for key, title in titles.items() if _words(title) == _words(name)]
  if len(called) == 1:
    return zoo[called[0]]
  if called:
    raise InputError('name', name, 'several edits have this title', f'give one of {", ".join(called[:12])}')
  near = difflib.get_close_matches(str(name), [*titles.values(), *zoo], n=1, cutoff=0.4)
  names = ', '.join(list(zoo)[:12]) + (', …' if len(zoo) > 12 else '')
  remedy = f'did you mean {near[0]}?' if near else f'give one of {names}' if zoo else 'annotate one first'
  raise InputError('name', name, f'{path} has no such edit', remedy)


def _words(title: str | None) -> list[str]:
  return (title or '').replace('·', ' ').lower().split()


def _packed(numbers) -> str:
  return base64.b64encode(np.asarray(numbers, '<f4').tobytes()).decode()


def _unpacked(text: Any, name: str) -> tuple[float, ...]:
  try:
    numbers = np.frombuffer(base64.b64decode(text, validate=True), '<f4')
    if not np.isfinite(numbers).all():
      raise ValueError
    return tuple(numbers.tolist())
  except (TypeError, ValueError, binascii.Error) as error:
    raise InputError(name, str(text)[:20], 'it is not packed float32, finite', 'write it with --annotate') from error


def is_number(x) -> bool:
  return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 3e38  # not NaN either


def whole_numbers(values, argument: str) -> tuple[int, ...]:
  if not isinstance(values, list | tuple) or not all(isinstance(x, int) and not isinstance(x, bool) for x in values):
    raise InputError(argument, values, 'not whole numbers', 'give 0-based indices')
  return tuple(values)
