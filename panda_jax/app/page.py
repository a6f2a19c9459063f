"""The page of the explorer: Gradio's controls, and what each of them does to a session.

Whoever imports this module imports Gradio; `server.prepared` comes first.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from panda_jax.app import panels
from panda_jax.app.choices import Choice, Session, placed
from panda_jax.app.engine import Engine
from panda_jax.app.saved import save
from panda_jax.errors import InputError
from panda_jax.sampling import parsed_numbers
from panda_jax.strips import ALPHA, strength

PICK, PAINT = 'choose parts', 'paint a mask'
FIRST_SHARE = 0.5  # of the slider's length: the strength at the first click
MOST_POINTS = 4000  # of a brush stroke
HINT = 'Click on the left picture to choose a part, then move the slider.'

CSS = """
.panda { margin: 0 } .panda h3 { margin: 0 0 4px; font-size: 1rem }
.panda figcaption { min-height: 1.4em; font-size: .85rem; opacity: .8 }
.panda-picture { position: relative; line-height: 0 } .panda-picture img { width: 100%; user-select: none }
.panda-picture canvas { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none }
.panda.of .panda-picture { cursor: crosshair } .panda[data-mode=paint] .panda-picture { touch-action: none }
.panda-error { color: #b3261e; font-weight: 600 } .dark .panda-error { color: #ff8a80 }
.panda-error, .panda-note { margin: 0; overflow-wrap: anywhere }
@media (max-width: 700px) {
  #panda-panels { display: grid; grid-template-columns: 1fr 1fr } #panda-panels > :first-child { grid-column: 1 / 3 }
}
"""

# The first argument of a trigger is the event; the places are fractions of the picture's width and height.
POINTER = """
const place = (event, box) => {
  const r = box.getBoundingClientRect(), within = (v) => Math.min(1, Math.max(0, v));
  return [within((event.clientX - r.left) / r.width), within((event.clientY - r.top) / r.height)];
};
const box = (event) => event.target.closest('.panda-picture');
const painting = (found) => found.closest('figure').dataset.mode === 'paint';
let stroke = null;
element.addEventListener('click', (event) => {
  const found = box(event);
  if (!found || painting(found)) return;
  const [x, y] = place(event, found);
  trigger('picked', {x, y});
});
element.addEventListener('pointerdown', (event) => {
  const found = box(event);
  if (!found || event.button || !painting(found)) return;
  event.preventDefault();
  found.setPointerCapture(event.pointerId);
  const canvas = document.createElement('canvas');
  canvas.width = found.clientWidth; canvas.height = found.clientHeight;
  found.append(canvas);
  const pen = canvas.getContext('2d');
  pen.strokeStyle = 'rgba(255, 120, 0, 0.7)'; pen.lineWidth = canvas.width / 20; pen.lineCap = pen.lineJoin = 'round';
  stroke = {found, pen, canvas, points: [place(event, found)]};
});
element.addEventListener('pointermove', (event) => {
  if (!stroke || stroke.points.length >= 4000) return;
  const last = stroke.points.at(-1), next = place(event, stroke.found);
  stroke.points.push(next);
  stroke.pen.beginPath();
  stroke.pen.moveTo(last[0] * stroke.canvas.width, last[1] * stroke.canvas.height);
  stroke.pen.lineTo(next[0] * stroke.canvas.width, next[1] * stroke.canvas.height);
  stroke.pen.stroke();
});
const ended = () => { if (stroke) { trigger('painted', {points: stroke.points}); stroke = null; } };
element.addEventListener('pointerup', ended);
element.addEventListener('pointercancel', ended);
"""


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
  if len(numbers) != 2 or not all(isinstance(n, int | float) and 0 <= n <= 1 for n in numbers):
    raise InputError('click', '(from the page)', 'it is no place on the picture', 'click again')
  return float(numbers[0]), float(numbers[1])


class Page:
  """What the controls do; `build` puts them on a page.

  Args:
    engine: of the fit that is explored.
  """

  def __init__(self, engine: Engine):
    self.engine = engine

  def begun(self) -> Session:
    """A session at its start."""
    return Session(Choice((self.engine.opened.seed,)).at(appearance=self.engine.appearances[0], alpha=0.0))

  def session(self, memory: str | None) -> Session:
    """The session that came with a request.

    Raises:
      InputError: it is none, or its edits do not suit these factors.
    """
    if not memory:
      return self.begun()
    session = Session.from_json(memory)
    for choice in (session.now, *session.past):
      for term in choice.terms:
        if np.ndim(term.alpha):
          raise InputError('session', '(from the page)', 'it sweeps', 'load the page again')
        if placed(term):
          term.edit(self.engine.factors)
        elif term.direction is None and term.appearance not in self.engine.appearances:
          raise InputError('session', '(from the page)', 'its appearance is none', 'load the page again')
    return session

  # What a control does: (session, what it gives) -> session, or (session, something to say).

  def picked(self, session: Session, data: Any) -> Session:
    data = data if isinstance(data, dict) else {}
    place = point_of([data.get('x'), data.get('y')])
    found = panels.tile_at(*place, len(session.now.seeds))
    if found is None:
      raise InputError('click', None, 'there is no picture there', 'click on one')
    i, x, y = found
    refined_of = session.now.seeds[i] if session.now.refined else None
    return self.with_part(session, self.engine.part_at(x, y, refined_of))

  def with_part(self, session: Session, part: int) -> Session:
    return self._begun_at(session.with_part(part), session)

  def painted(self, session: Session, data: Any) -> Session:
    found = [panels.tile_at(*point, len(session.now.seeds)) for point in points_of(data)]
    tile = next((place[0] for place in found if place is not None), None)
    if tile is None:
      raise InputError('mask', '(painted)', 'there is no picture there', 'paint on one')
    points = [place[1:] for place in found if place is not None and place[0] == tile]
    current = session.now.current
    mask = self.engine.stroke(points, None if current.part else current.mask)
    return self._begun_at(session.with_mask(mask), session)

  def uploaded(self, session: Session, path: str | None) -> Session:
    if path is None:
      return session
    try:
      mask = self.engine.read_mask(Path(path))
    except InputError as error:  # the path is of no use to whoever sent the file
      raise InputError('mask', Path(path).name, error.problem, error.remedy) from error
    finally:
      with contextlib.suppress(OSError):
        os.unlink(path)
    return self._begun_at(session.with_mask(mask), session)

  def _begun_at(self, session: Session, before: Session) -> Session:
    """An edit that acts for the first time has a strength to be seen at."""
    now = session.now
    if placed(before.now.current) or now.current.alpha:
      return session
    alpha = FIRST_SHARE * self.engine.reach(now.current)
    return dataclasses.replace(session, now=now.at(alpha=alpha))

  def with_appearance(self, session: Session, appearance: Any) -> Session:
    return session.with_appearance(appearance)

  def slid(self, session: Session, alpha: Any) -> Session:
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
      raise InputError('alpha', alpha, 'it is not a finite number', 'give one, or move the slider')
    return session.with_alpha(alpha)

  def from_catalog(self, session: Session, name: Any) -> tuple[Session, str]:
    found = self.engine.catalog()
    if name not in found:
      raise InputError('catalog', name, 'there is no such entry', 'load the page again')
    entry = found[name]
    return session.with_terms(self.engine.terms_of(entry)), entry.note

  def with_seeds(self, session: Session, text: Any) -> Session:
    try:
      seeds = parsed_numbers(str(text)[:200], 'seeds')
    except InputError as error:
      raise InputError('seeds', text, error.problem, 'give some such as 3 or 0-3') from error
    return session.with_seeds(tuple(seeds))

  def next_seeds(self, session: Session, by: int) -> Session:
    seeds = session.now.seeds
    return session.with_seeds(tuple((t + by * len(seeds)) % 2**32 for t in seeds))

  def refined(self, session: Session, on: Any) -> tuple[Session, str]:
    said = 'Parts are refined for each picture.' if on else 'Parts of the fit.'
    return session.with_refined(bool(on)), said

  def removed(self, session: Session) -> tuple[Session, str]:
    term, said = self.engine.removal(session.now)
    return session.with_terms((*session.now.terms[:-1], term)), said

  def kept(self, session: Session) -> tuple[Session, str]:
    return session.kept(), 'Kept. Click on the picture to add another edit to it.'

  def undone(self, session: Session) -> tuple[Session, str]:
    return session.undone(), '' if session.past else 'There is nothing to undo.'

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
    original, edited = self.engine.originals(choice.seeds), self.engine.edited(choice)
    return panels.edited_panel(edited, self.words(choice)), panels.difference_panel(original, edited)

  def original(self, session: Session, mode: str) -> str:
    """HTML of the originals with the outline."""
    choice, engine = session.now, self.engine
    return panels.original_panel(
      engine.originals(choice.seeds),
      engine.regions(choice),
      engine.margin,
      choice.seeds,
      self.where(choice),
      'paint' if mode == PAINT else 'pick',
    )


@contextlib.contextmanager
def _on_page(engine: Engine, title: str) -> Iterator[gr.Blocks]:
  with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 600)) as blocks:
    folder = engine.opened.folder.name
    gr.Markdown(
      f'## PandA explorer: {folder}\n{len(engine.parts)} parts, {len(engine.appearances)} appearances, '
      f'layer {engine.opened.layer}'
    )
    yield blocks


def build(engine: Engine) -> gr.Blocks:
  """The page."""
  page = Page(engine)
  entries = list(_catalog(engine))
  with _on_page(engine, 'PandA explorer') as blocks:
    memory = gr.Textbox(visible='hidden', elem_id='panda-memory')
    with gr.Row(elem_id='panda-panels'):
      options = {'apply_default_css': False}
      with gr.Column(min_width=150):
        original = gr.HTML(js_on_load=POINTER, elem_id='panda-original', **options)
      with gr.Column(min_width=150):
        edited = gr.HTML(elem_id='panda-edited', js_on_load=None, **options)
      with gr.Column(min_width=150):
        difference = gr.HTML(elem_id='panda-difference', js_on_load=None, **options)
    alpha = gr.Slider(-1, 1, 0, step=0.01, label=f'strength {ALPHA}', elem_id='panda-alpha', buttons=[])
    status = gr.HTML(panels.message(HINT), elem_id='panda-status', js_on_load=None, apply_default_css=False)
    with gr.Row():
      part = gr.Dropdown(engine.parts, label='part', value=None, elem_id='panda-part', min_width=120)
      appearance = gr.Dropdown(engine.appearances, label='appearance', elem_id='panda-appearance', min_width=120)
      catalog = gr.Dropdown(
        entries, label='from the catalog', value=None, visible=bool(entries), elem_id='panda-catalog', min_width=240
      )
      mode = gr.Radio([PICK, PAINT], value=PICK, label='on the left picture', elem_id='panda-mode', min_width=240)
    with gr.Row():
      remove = gr.Button('Remove the part', elem_id='panda-remove', size='sm', min_width=120)
      keep = gr.Button('Keep, and add another', elem_id='panda-keep', size='sm', min_width=120)
      undo = gr.Button('Undo', elem_id='panda-undo', size='sm', min_width=120)
      upload = gr.UploadButton('Mask from a PNG', elem_id='panda-upload', size='sm', min_width=120)
      refine = gr.Checkbox(label='parts refined for each picture', elem_id='panda-refine', min_width=200)
    with gr.Row():
      seeds = gr.Textbox(label='seeds, such as 3 or 0-3', elem_id='panda-seeds', max_lines=1, min_width=160)
      back = gr.Button('Previous', elem_id='panda-back', size='sm', min_width=100)
      forth = gr.Button('Next', elem_id='panda-next', size='sm', min_width=100)
      name = gr.Textbox(label='name to save as (optional)', elem_id='panda-name', max_lines=1, min_width=160)
      keeper = gr.Button('Save PNG, GIF and JSON', variant='primary', elem_id='panda-save', min_width=160)

    live = [memory, edited, difference, status]
    everything = [*live, original, alpha, part, appearance, seeds, refine]

    def shown(session: Session, said: str, at: str, kind: str = 'note') -> list:
      choice = session.now
      term, reach = choice.current, engine.reach(choice.current)
      return [
        session.to_json(),
        *page.pictures(session),
        panels.message(said or hint(choice), kind),
        page.original(session, at),
        gr.update(minimum=-reach, maximum=reach, step=reach / 100, value=float(term.alpha)),
        term.part[0] if len(term.part) == 1 else None,
        None if term.direction is not None else term.appearance,
        ','.join(map(str, choice.seeds)),
        choice.refined,
      ]

    def told(text: str, at: str, act: Callable[[Session], Any]) -> list:
      """Everything after an action; what it raises is said, and the session stays as it was."""
      try:
        session = page.session(text)
      except InputError as error:
        return shown(page.begun(), sentence(error), at, 'error')
      try:
        after = act(session)
        after, said = after if isinstance(after, tuple) else (after, '')
        return shown(after, said, at)
      except InputError as error:
        return shown(session, sentence(error), at, 'error')

    def on(listener, act: Callable, *inputs, **options) -> None:
      def handle(text, at, *given):
        return told(text, at, lambda session: act(session, *given))

      listener(handle, [memory, mode, *inputs], everything, api_visibility='private', show_progress='hidden', **options)

    def picked(text, at, event: gr.EventData):
      return told(text, at, lambda session: page.picked(session, event._data))

    def painted(text, at, event: gr.EventData):
      return told(text, at, lambda session: page.painted(session, event._data))

    def slid(text, strength):
      try:
        session = page.slid(page.session(text), strength)
        return [session.to_json(), *page.pictures(session), panels.message(hint(session.now))]
      except InputError as error:
        return [gr.skip(), gr.skip(), gr.skip(), panels.message(sentence(error), 'error')]

    def saved(text, chosen_name):
      try:
        return panels.saved_message(save(engine, page.session(text).now, (chosen_name or '').strip()))
      except InputError as error:
        return panels.message(sentence(error), 'error')

    private = {'api_visibility': 'private', 'show_progress': 'hidden'}
    original.picked(picked, [memory, mode], everything, **private)
    original.painted(painted, [memory, mode], everything, **private)
    alpha.input(slid, [memory, alpha], live, trigger_mode='always_last', **private)
    on(part.input, page.with_part, part)
    on(appearance.input, page.with_appearance, appearance)
    on(catalog.input, page.from_catalog, catalog)
    on(mode.input, lambda session: session)
    on(upload.upload, page.uploaded, upload)
    on(refine.input, page.refined, refine)
    on(remove.click, page.removed)
    on(keep.click, page.kept)
    on(undo.click, page.undone)
    on(seeds.submit, page.with_seeds, seeds)
    on(back.click, lambda session: page.next_seeds(session, -1))
    on(forth.click, lambda session: page.next_seeds(session, 1))
    keeper.click(saved, [memory, name], status, **private)
    blocks.load(lambda at: told('', at, lambda session: session), mode, everything, **private)
  return blocks.queue(default_concurrency_limit=4, max_size=200)


def _catalog(engine: Engine) -> list[str]:
  try:
    return list(engine.catalog())
  except InputError:  # a damaged one is no reason not to open the page
    return []
