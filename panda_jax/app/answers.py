"""The answer to each request of the explorer's page, as values that JSON can hold.

An action takes the fits and the values of a request. Any client can send any values, so an action raises InputError for
values that it cannot use, and the page shows the sentence. A slow action is a generator function: it yields progress.
"""

import base64
from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from panda_jax.app import film, images
from panda_jax.app.choices import (
  MOST_SEEDS,
  MOST_TERMS,
  MOST_TRUNCATION,
  REMEDY,
  Choice,
  Offered,
  checked_term,
  is_number,
)
from panda_jax.app.engine import SHOWN, Engine
from panda_jax.app.fits import Fits
from panda_jax.app.photographs import marks_of, progress, received, typed_numbers, upload_of
from panda_jax.app.saves import EDITED, WHOLE, save
from panda_jax.catalog.names import BETWEEN, LEAST, MEASURES, OPENED
from panda_jax.catalog.search import places_of
from panda_jax.editing.zoo import NamedEdit, Spec
from panda_jax.errors import InputError
from panda_jax.pictures import colours

LARGEST_MASK = 8 << 20  # bytes of its file
THUMBNAIL = 128  # pixels of a sample's longer side
MOST_LETTERS = 200  # of an edit's name
FILES = 'photograph', 'mask'
UNKNOWN = 'The picture in the frame looks unlike all samples of the generator; is the frame in the right place?'

Answer = dict[str, Any]


def sentence(error: InputError) -> str:
  """The problem and the remedy for a reader of the page. For a file it begins with the file's name."""
  text = ' '.join(f'{error.problem}; {error.remedy}.'.split())
  return f'{error.value if error.argument in FILES and error.value else error.argument}: {text}'


def fit(fits: Fits, values: Mapping) -> Generator[str, None, Answer]:
  """Yields its progress; returns everything about a fit that stays the same while it is explored."""
  name = values.get('fit') or fits.names[0]
  yield 'Loading the generator'
  fits.engine(name)
  yield 'Compiling what edits need; this is done once'
  engine = fits.prepared(name)
  offered, reaches = Offered.of(engine.factors), engine.reaches()
  names, warning = _names_of_parts(engine)
  return {
    'fit': name,
    'fits': fits.names,
    'digest': engine.opened.digest_factors,
    'layer': engine.opened.layer,
    'size': list(engine.size),
    'grid': list(engine.factors.grid),
    'margin': np.broadcast_to(engine.margin, 2).tolist(),
    'parts': offered.parts,
    'maps': _packed_maps(engine.maps()[offered.parts]),
    'names': names,
    'warning': warning,
    'appearances': offered.appearances,
    'reaches': {str(j): float(reaches[j]) for j in offered.appearances},
    'colours': [list(colour) for colour in colours.OVERLAY],
    'first_seed': engine.first_seed,
    'typical_seed': engine.typical(),
    'shown': SHOWN,
    'most_seed': engine.most_seeds - 1,
    'seeds_are': 'seed' if engine.samples.given is None else 'sample',
    'truncation': engine.truncation,
    'most_truncation': MOST_TRUNCATION,
    'most_seeds': MOST_SEEDS,
    'most_terms': MOST_TERMS,
    'points': list(engine.photographs.points),
    'words': [[f'{one.more}, {one.less}', one.meaning] for one in (*MEASURES.values(), OPENED)],
    'least': LEAST,
  }


def _names_of_parts(engine: Engine) -> tuple[dict[str, str], str]:
  """Names of parts, and a warning. A name is the catalog's if all edits of the part agree, else it is of the place."""
  found, warning = {}, ''
  try:
    found = {str(part): name for part, name in enumerate(places_of(engine.opened)) if name}
    for part, name in _called(engine.catalog()).items():
      found[str(part)] = name
  except InputError as error:  # the page opens nevertheless
    warning = sentence(error)
  return found, warning


def _called(catalog: Mapping[str, NamedEdit]) -> dict[int, str]:
  """The names of parts in a catalog, for parts that have the same name in all their edits."""
  found: dict[int, set[str]] = {}
  for entry in catalog.values():
    (where, between, _), (term, *more) = entry.title.partition(BETWEEN), entry.terms
    if len(term.part) == 1 and not more:
      found.setdefault(term.part[0], set()).add(where if between else '')
  return {part: names.pop() for part, names in found.items() if len(names) == 1 and names != {''}}


def _packed_maps(maps: np.ndarray) -> Answer:
  """Maps (k, H, W) in [0, 1] as bytes, 255 for 1; values above 0 stay above 0."""
  whole = np.ceil(255 * np.clip(maps, 0, 1)).astype(np.uint8)
  return {'shape': list(whole.shape), 'bytes': base64.b64encode(whole.tobytes()).decode()}


def checked_words(values: Any) -> list[str]:
  """Names of edits, cut to `MOST_LETTERS`.

  Raises:
    InputError: the values are not a list of at most `MOST_TERMS` texts.
  """
  if not isinstance(values, list) or len(values) > MOST_TERMS or not all(isinstance(x, str) for x in values):
    raise InputError('words', type(values).__name__, 'they are not names of edits', REMEDY)
  return [word[:MOST_LETTERS] for word in values]


def choice_of(engine: Engine, values: Mapping) -> Choice:
  """The choice in a request, checked for this fit.

  Raises:
    InputError: the value is not a choice, or does not suit the fit.
  """
  choice = Choice.from_json(values.get('choice'))
  choice.check(Offered.of(engine.factors))
  return choice


def place_of(engine: Engine, values: Mapping) -> Spec:
  """The place in a request, an edit of a part or a mask, checked for this fit.

  Raises:
    InputError: the value is not such an edit, or does not suit the fit.
  """
  place = checked_term(values.get('place'))
  Choice(terms=(place,)).check(Offered.of(engine.factors))
  return place


def pictures(fits: Fits, values: Mapping) -> Answer:
  """The `views` of a choice: original, edited, difference; thumbnails if `small`."""
  engine = fits.engine(values.get('fit'))
  choice, views = choice_of(engine, values), values.get('views')
  most = THUMBNAIL if values.get('small') else images.LARGEST
  if not isinstance(views, list) or not 1 <= len(views) <= 3:
    raise InputError('views', None, 'they are not a list', REMEDY)
  found: Answer = {}
  for view in views:
    if view == 'original':
      found[view] = images.shown(engine.originals(choice.keys), most)
    elif view == 'edited':
      found[view] = images.shown(engine.edited(choice), most)
    elif view == 'difference':
      found[view], found['brightest'] = images.differences(engine.originals(choice.keys), engine.edited(choice))
    else:
      raise InputError('view', str(view)[:40], 'there is none of this name', REMEDY)
  return found


def frames(fits: Fits, values: Mapping) -> Answer:
  """The filmstrip of a `place` on top of a choice."""
  engine = fits.engine(values.get('fit'))
  choice, place = choice_of(engine, values), place_of(engine, values)
  found = film.film(engine, choice, place)
  shown = images.shown(np.stack([frame.picture for frame in found]), film.PIXELS) if found else []
  return {
    'frames': [
      {'name': frame.name, 'term': frame.term.to_json(), 'picture': picture}
      for frame, picture in zip(found, shown, strict=True)
    ]
  }


def removal(fits: Fits, values: Mapping) -> Answer:
  """The edit that removes a `place` from the sample in view."""
  engine = fits.engine(values.get('fit'))
  return {'term': engine.removal(place_of(engine, values), choice_of(engine, values)).to_json()}


def refined(fits: Fits, values: Mapping) -> Answer:
  """Parts, refined for the first sample of a choice."""
  engine = fits.engine(values.get('fit'))
  return {'maps': _packed_maps(engine.maps(choice_of(engine, values).keys[0])[engine.parts])}


def mask(fits: Fits, values: Mapping) -> Answer:
  """A mask from a file, {'name', 'content': base 64, or None if the file is too large}."""
  engine = fits.engine(values.get('fit'))
  name = str(values.get('name', ''))[:80]
  content = received(values, name, LARGEST_MASK, 'mask', 'give a PNG of the size of the picture')
  try:
    found = engine.read_mask(content)
  except InputError as error:  # the message has the name that the user knows
    raise InputError('mask', name, error.problem, error.remedy) from error
  return {'mask': Spec(mask=tuple(found.tolist())).to_json()['mask']}


def photograph(fits: Fits, values: Mapping) -> Answer:
  """Takes a photograph, {'name', 'content', 'count'}; `marks` is the next step."""
  photographs = fits.engine(values.get('fit')).photographs
  upload = upload_of(values)
  key = photographs.shelf.put(upload, len(upload.content) + upload.shown.nbytes)
  H, W = upload.size
  return {
    'key': key,
    'name': upload.name,
    'size': [H, W],
    'picture': images.address(upload.shown),
    'aspect': photographs.size[1] / photographs.size[0],
    'said': photographs.hint(),
  }


def ready(fits: Fits, values: Mapping) -> Answer:
  """Compiles what the first photograph needs, while the user marks it."""
  fits.engine(values.get('fit')).prepare()
  return {}


def point_of(pair: Any) -> tuple[float, float]:
  """(x, y), each in [0, 1].

  Raises:
    InputError: the pair is not such a point.
  """
  numbers = list(pair) if isinstance(pair, list | tuple) else []
  if len(numbers) != 2 or not all(is_number(n) and 0 <= n <= 1 for n in numbers):
    raise InputError('click', '(from the page)', 'it is not a place on the picture', 'click again')
  return float(numbers[0]), float(numbers[1])


def marks(fits: Fits, values: Mapping) -> Answer:
  """Points 'x,y,x,y' or box 'x,y,width,height' on a photograph, after a `click` or after a box was `dragged`.

  Positions of marks and of the frame's corners are shares of width and height.
  """
  photographs = fits.engine(values.get('fit')).photographs
  key, points, box = values.get('key'), typed_numbers(values.get('points')), typed_numbers(values.get('box'))
  upload = photographs.upload(key)
  H, W = upload.size
  if values.get('click') is not None:
    points, box = photographs.marked(upload, points, *point_of(values['click'])), ''
  if values.get('dragged') is not None:
    ends = values['dragged'] if isinstance(values['dragged'], list) else []
    if len(ends) != 2:
      raise InputError('box', '(dragged)', 'it is not a box', 'drag again')
    points, box = '', photographs.box(upload, [point_of(end) for end in ends])
  known, said, wrong, corners = marks_of(points), photographs.hint(points, box), False, None
  try:
    corners = (photographs.placement(upload.size, points, box).corners() / (W, H)).tolist()
  except InputError as error:
    if len(known) != 1 or box:  # after one point, the second is still missing
      said, wrong = sentence(error), True
  found = {'points': points, 'box': box, 'said': said, 'wrong': wrong, 'corners': corners}
  return found | {'marks': [[x / W, y / H] for x, y in known]}


def inversion(fits: Fits, values: Mapping) -> Generator[str, None, Answer]:
  """Yields the progress of the inversion of a marked photograph; returns its result."""
  photographs = fits.engine(values.get('fit')).photographs
  key, points, box = (values.get(name) for name in ('key', 'points', 'box'))
  made = yield from progress(lambda said: photographs.inverted(key, points, box, said))
  held = photographs.held(made)
  inverted = held.inversion
  near = f'As the generator makes it: PSNR {float(inverted.psnr[0]):.1f} dB, in {held.seconds:.1f} s'
  pair = images.shown(np.concatenate([inverted.photographs[:1], inverted.images[:1]]))
  said = 'The photograph is ready.' if held.known else UNKNOWN
  return {'photograph': made, 'name': held.names[0], 'near': near, 'said': said, 'pictures': pair} | {
    'command': held.command
  }


def saved(fits: Fits, values: Mapping) -> Answer:
  """Writes a choice; returns its folder, its files and the command that repeats it."""
  from PIL import Image

  name = values.get('fit')
  engine = fits.engine(name)
  given, words = values.get('name'), values.get('words')
  choice, given = choice_of(engine, values), given.strip() if isinstance(given, str) else given or ''
  written = save(engine, choice, given, checked_words(words or []))
  address = f'saved/{fits.number(name)}/{written.name}'
  files = [{'name': file, 'address': f'{address}/{file}'} for file in written.files]
  picture = WHOLE if WHOLE in written.files else EDITED
  with Image.open(written.folder / picture) as opened:
    size = opened.size
  return {'name': written.name, 'folder': str(written.folder), 'files': files, 'command': written.command} | {
    'picture': picture,
    'size': list(size),
  }


ACTIONS: Mapping[str, Callable[[Fits, Mapping], Answer | Generator[str, None, Answer]]] = MappingProxyType(
  {
    action.__name__: action
    for action in (fit, pictures, frames, removal, refined, mask, photograph, ready, marks, inversion, saved)
  }
)
# These take much memory or all cores: each runs once at a time, for all users together.
ALONE = frozenset({'photograph', 'ready', 'inversion'})
