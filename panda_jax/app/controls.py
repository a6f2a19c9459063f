"""What each control of the explorer does to a session, and what is shown of one; Gradio is not needed for it."""

import dataclasses
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.app import panels
from panda_jax.app.choices import LARGEST_NUMBER, MOST_SEEDS, Choice, Session, checked_choice, placed
from panda_jax.app.engine import Engine
from panda_jax.app.photographs import Download, marks_of, progress, received, typed_numbers, upload_of
from panda_jax.errors import InputError
from panda_jax.generators.seeds import parsed_numbers
from panda_jax.pictures.strips import strength

PICK, PAINT = 'choose parts', 'paint a mask'
FIRST_SHARE = 0.5  # of the slider's length: the strength at the first click
MOST_POINTS = 4000  # of a brush stroke
LARGEST_UPLOAD = 8 << 20  # bytes
UNKNOWN = "What is in the frame looks like none of the generator's samples; is it where it should be?"
HINT = 'Click on the left picture to choose a part, then move the slider.'


def sentence(error: InputError) -> str:
  """What went wrong and what to do, for a reader of the page."""
  text = ' '.join(f'{error.problem}; {error.remedy}.'.split())
  return f'{error.argument}: {text}'


def hint(choice: Choice) -> str:
  """What to do next."""
  return 'Move the slider, or choose another part or appearance.' if placed(choice.current) else HINT


def points_of(data: Any) -> list[tuple[float, float]]:
  """Points (x, y) of a brush stroke.

  Raises:
    InputError: they are none.
  """
  points = data.get('points') if isinstance(data, dict) else None
  if not isinstance(points, list) or not 1 <= len(points) <= MOST_POINTS:
    raise InputError('mask', '(painted)', 'it is no stroke of a brush', 'paint again')
  return [point_of(point) for point in points]


def point_of(pair: Any) -> tuple[float, float]:
  """(x, y), each in [0, 1].

  Raises:
    InputError: they are none.
  """
  numbers = list(pair) if isinstance(pair, list | tuple) else []
  if len(numbers) != 2 or not all(is_number(n) and 0 <= n <= 1 for n in numbers):
    raise InputError('click', '(from the page)', 'it is no place on the picture', 'click again')
  return float(numbers[0]), float(numbers[1])


def is_number(x: Any) -> bool:
  """Whether it is one, and finite."""
  return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < math.inf


class Controls:
  """What the controls do: each method takes a session and what the control gives, and returns the session after it,
  or that and something to say. Mistakes raise InputError, and the session stays.

  Args:
    engine: of the fit that is explored.
  """

  def __init__(self, engine: Engine):
    self.engine = engine

  def begun(self) -> Session:
    """A session at its start."""
    return Session(Choice((self.engine.first_seed,)).at(appearance=self.engine.appearances[0], alpha=0.0))

  def session(self, memory: str | None) -> Session:
    """The session that came with a request.

    Raises:
      InputError: it is none, or its edits do not suit these factors.
    """
    if not memory:
      return self.begun()
    session = Session.from_json(memory)
    session.check(self.engine.factors)
    return session

  def picked(self, session: Session, data: Any) -> Session:
    data = data if isinstance(data, dict) else {}
    place = point_of([data.get('x'), data.get('y')])
    found = panels.tile_at(*place, len(session.now.samples))
    if found is None:
      raise InputError('click', None, 'there is no picture there', 'click on one')
    i, x, y = found
    refined_of = session.now.samples[i] if session.now.refined else None
    return self.with_part(session, self.engine.part_at(x, y, refined_of))

  def with_part(self, session: Session, part: Any) -> Session:
    return self._begun_at(session.with_part(checked_choice('part', part, self.engine.parts)), session)

  def painted(self, session: Session, data: Any) -> Session:
    found = [panels.tile_at(*point, len(session.now.samples)) for point in points_of(data)]
    tile = next((place[0] for place in found if place is not None), None)
    if tile is None:
      raise InputError('mask', '(painted)', 'there is no picture there', 'paint on one')
    points = [place[1:] for place in found if place is not None and place[0] == tile]
    current = session.now.current
    mask = self.engine.stroke(points, None if current.part else current.mask)
    return self._begun_at(session.with_mask(mask), session)

  def uploaded(self, session: Session, data: Any) -> Session:
    """`data`: name of a file and its content in base 64, None if it is too large."""
    name = str(data.get('name', '') if isinstance(data, dict) else '')[:80]
    content = received(data, name, LARGEST_UPLOAD, 'mask', 'give a PNG of the size of the picture')
    try:
      mask = self.engine.read_mask(content)
    except InputError as error:  # by the name that the sender knows
      raise InputError('mask', name, error.problem, error.remedy) from error
    return self._begun_at(session.with_mask(mask), session)

  def _begun_at(self, session: Session, before: Session) -> Session:
    """An edit that acts for the first time has a strength to be seen at."""
    now = session.now
    if placed(before.now.current) or now.current.alpha:
      return session
    alpha = FIRST_SHARE * self.engine.reach(now.current)
    return dataclasses.replace(session, now=now.at(alpha=alpha))

  def with_appearance(self, session: Session, appearance: Any) -> Session:
    return session.with_appearance(checked_choice('appearance', appearance, self.engine.appearances))

  def slid(self, session: Session, alpha: Any) -> Session:
    if not is_number(alpha):
      raise InputError('alpha', alpha, 'it is not a finite number', 'give one, or move the slider')
    if abs(alpha) > LARGEST_NUMBER:
      raise InputError('alpha', alpha, f'it is beyond {LARGEST_NUMBER:g}', 'give a smaller one, or move the slider')
    return session.with_alpha(alpha)

  def from_catalog(self, session: Session, name: Any) -> tuple[Session, str]:
    found = self.engine.catalog()
    if not isinstance(name, str) or name not in found:
      raise InputError('catalog', name, 'there is no such entry', 'load the page again')
    entry = found[name]
    after = session.with_terms(self.engine.terms_of(entry))
    after.check(self.engine.factors)
    return after, entry.note

  def with_seeds(self, session: Session, text: Any) -> Session:
    try:
      seeds = parsed_numbers(str(text)[:200], 'seeds', MOST_SEEDS)
    except InputError as error:
      raise InputError('seeds', text, error.problem, 'give some such as 3 or 0-3') from error
    return session.with_seeds(tuple(seeds))

  def with_seeds_of(self, session: Session, memory: str | None) -> Session:
    """On the seeds that a session of another fit showed."""
    try:
      seeds = Session.from_json(memory).now.seeds
    except InputError:
      return session
    return dataclasses.replace(session, now=dataclasses.replace(session.now, seeds=seeds))

  def next_seeds(self, session: Session, by: int) -> Session:
    seeds = session.now.seeds
    if session.now.photograph:
      return session.with_seeds(seeds)
    return session.with_seeds(tuple((t + by * len(seeds)) % self.engine.most_seeds for t in seeds))

  def refined(self, session: Session, on: Any) -> tuple[Session, str]:
    said = 'Parts are refined for each picture.' if on is True else 'Parts of the fit.'
    return session.with_refined(on is True), said

  def removed(self, session: Session) -> tuple[Session, str]:
    term, said = self.engine.removal(session.now)
    return session.with_terms((*session.now.terms[:-1], term)), said

  def kept(self, session: Session) -> tuple[Session, str]:
    return session.kept(), 'Kept. Click on the picture to add another edit to it.'

  def undone(self, session: Session) -> tuple[Session, str]:
    return session.undone(), '' if session.past else 'There is nothing to undo.'

  # Photographs. What is marked on one stands in the page's fields for points and box; `key` is that of the upload.

  def taken(self, data: Any) -> str:
    """The key of a photograph that the page sent."""
    upload = upload_of(data)
    return self.engine.photographs.shelf.put(upload, len(upload.content) + upload.shown.nbytes)

  def marked(self, key: Any, points: Any, data: Any) -> str:
    """The points with the one that was clicked."""
    data = data if isinstance(data, dict) else {}
    place = point_of([data.get('x'), data.get('y')])
    return self.engine.photographs.marked(self.engine.photographs.upload(key), points, *place)

  def boxed(self, key: Any, data: Any) -> str:
    """The box that was dragged."""
    ends = data.get('points') if isinstance(data, dict) else None
    if not isinstance(ends, list) or len(ends) != 2:
      raise InputError('box', '(dragged)', 'it is no box', 'drag again')
    return self.engine.photographs.box(self.engine.photographs.upload(key), [point_of(end) for end in ends])

  def marks(self, key: Any, points: Any, box: Any) -> tuple[str, str, str]:
    """HTML of the photograph with what is marked; what to say of it, and of which kind that is."""
    photographs = self.engine.photographs
    upload, marks = photographs.upload(key), marks_of(points)
    said, kind, corners = photographs.hint(points, box), 'note', None
    try:
      corners = photographs.placement(upload.size, points, box).corners()
    except InputError as error:
      if len(marks) != 1 or typed_numbers(box):  # the second is still to come
        said, kind = sentence(error), 'error'
    (H, W), (h, w) = upload.size, upload.shown.shape[:2]
    scale = np.array([w / W, h / H])
    marks = [tuple(mark * scale) for mark in np.array(marks).reshape(-1, 2)]
    corners = None if corners is None else corners * scale
    aspect = self.engine.size[1] / self.engine.size[0]
    caption = f'{upload.name}, {W}x{H} pixels'
    return panels.marks_panel(upload.shown, marks, corners, aspect, caption), said, kind

  def inverting(
    self, session: Session, key: Any, points: Any, box: Any
  ) -> Generator[str, None, tuple[Session, str, str]]:
    """Says how far the inversion is; then the session with it, what is said of it, and HTML of it."""
    photographs = self.engine.photographs
    made = yield from progress(lambda said: photographs.inverted(key, points, box, said))
    held = photographs.held(made)
    found = held.inversion
    near = float(found.psnr[0]), held.seconds
    panel = panels.inverted_panel(found.photographs[0], found.images[0], *near, held.command)
    after = session.with_photograph(made)
    doubt = '' if held.known else f'{UNKNOWN} '
    return after, f'Inverted: {panels.told_of(*near)}. {doubt}{hint(after.now)}', panel

  def download(self, session: Session) -> tuple[str, str]:
    """The key and the name of a PNG of the whole photograph, edited."""
    whole = self.engine.whole(session.now)
    if whole is None:
      raise InputError('photograph', None, 'what is shown is not one photograph', 'give one first')
    photographs = self.engine.chosen(session.now.samples).photographs
    name = f'{Path(photographs.names[0]).stem}-edited.png'
    found = Download(name, panels.png_bytes(whole, photographs.profile(0)))
    return self.engine.photographs.shelf.put(found, len(found.content)), found.name

  # What is shown of a session.

  def words(self, choice: Choice) -> str:
    """What is edited, in words."""
    said = []
    for term in choice.complete:
      where = f'part {" and ".join(map(str, term.part))}' if term.part else 'painted mask'
      what = 'a direction' if term.direction is not None else f'appearance {term.appearance}'
      said.append(f'{where} · {what} · {strength(float(f"{float(term.alpha):.3g}"))}')
    return ' + '.join(said) or 'nothing yet'

  def where(self, choice: Choice) -> str:
    current = choice.current
    if current.part:
      return f'part {" and ".join(map(str, current.part))}{", refined" if choice.refined else ""}'
    return 'your mask' if current.mask is not None else 'no part chosen'

  def pictures(self, session: Session) -> tuple[str, str]:
    """HTML of edited and difference."""
    choice = session.now
    original, edited = self.engine.originals(choice.samples), self.engine.edited(choice)
    return panels.edited_panel(edited, self.words(choice)), panels.difference_panel(original, edited)

  def original(self, session: Session, mode: str) -> str:
    """HTML of the originals with the outline."""
    choice, engine = session.now, self.engine
    return panels.original_panel(
      engine.originals(choice.samples),
      engine.regions(choice),
      engine.margin,
      ', '.join(engine.names(choice.samples)) if choice.photograph else f'seeds {", ".join(map(str, choice.seeds))}',
      self.where(choice),
      'paint' if mode == PAINT else 'pick',
    )
