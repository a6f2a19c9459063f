"""The page of the explorer: controls of Gradio, wired to controls.py.

Whoever imports this module imports Gradio; `server.prepared` comes first.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import gradio as gr

from panda_jax.app import panels, scripts
from panda_jax.app.choices import Session
from panda_jax.app.controls import HINT, LARGEST_UPLOAD, PAINT, PICK, Controls, hint, sentence
from panda_jax.app.engine import Engine
from panda_jax.app.fits import Fits
from panda_jax.app.photographs import LARGEST
from panda_jax.app.saves import save
from panda_jax.errors import InputError
from panda_jax.pictures.strips import ALPHA

WIDEST = 1e9  # ends of the slider before the page sets others

CSS = """
.panda { margin: 0 } .panda h3 { margin: 0 0 4px; font-size: 1rem }
.panda figcaption { min-height: 1.4em; font-size: .85rem; opacity: .8 }
.panda-picture { position: relative; line-height: 0 } .panda-picture img { width: 100%; user-select: none }
.panda-picture canvas { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none }
.panda.of .panda-picture { cursor: crosshair } .panda[data-mode=paint] .panda-picture { touch-action: none }
.panda-error { color: #b3261e; font-weight: 600 } .dark .panda-error { color: #ff8a80 }
#panda-upload { flex: 1 1 200px; min-width: min(200px, 100%) }
.panda-file { font-size: .9rem } .panda-file input { width: 7.5em; overflow: hidden }
.panda-drop { display: inline-block; padding: 4px 8px; border: 1px dashed var(--border-color-primary) }
.panda-drop.over { border-color: var(--color-accent) }
.panda.ma .panda-picture { cursor: crosshair; touch-action: none; width: fit-content; max-width: 100% }
.panda.ma .panda-picture img { width: auto; max-width: 100%; max-height: 300px }
.panda-pair { display: flex; gap: 12px } .panda-pair figure { flex: 1 1 0; max-width: 240px }
#panda-inverted code { font-size: .75rem; overflow-wrap: anywhere }
/* What is said stays in view wherever the button is; with overflow: hidden around it, it would not. */
.gradio-container { overflow: clip !important }
#panda-status { position: sticky; top: 0; bottom: 0; z-index: 99; background: var(--body-background-fill) }
.panda-busy::before {
  content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .5em; border: 2px solid;
  border-right-color: transparent; border-radius: 50%; animation: panda-turn 1s linear infinite;
}
@keyframes panda-turn { to { transform: rotate(360deg) } }
.panda-error, .panda-note, .panda-busy { margin: 0; overflow-wrap: anywhere }
@media (max-width: 700px) {
  #panda-panels { display: grid; grid-template-columns: 1fr 1fr } #panda-panels > :first-child { grid-column: 1 / 3 }
}
"""


def _head(engine: Engine) -> str:
  count = f'{len(engine.parts)} parts, {len(engine.appearances)} appearances, layer {engine.opened.layer}'
  return f'## PandA explorer: {engine.opened.folder.name}\n{count}'


def build(fits: Fits) -> gr.Blocks:
  """The page of some fits, of which the first is shown first."""
  parts, appearances, entries = fits.all_values()  # of which Gradio takes values; the page shows those of one fit
  with gr.Blocks(title='PandA explorer', analytics_enabled=False, delete_cache=(600, 600)) as blocks:
    head = gr.Markdown(elem_id='panda-head')
    memory = gr.Textbox(visible='hidden', elem_id='panda-memory')
    held = gr.Textbox(visible='hidden', elem_id='panda-held')
    with gr.Row():
      drop = gr.HTML(
        scripts.PHOTOGRAPH,
        js_on_load=scripts.reader(LARGEST) + scripts.DROPPED,
        elem_id='panda-drop',
        apply_default_css=False,
      )
    with gr.Row(visible=False, elem_id='panda-photograph') as section:
      with gr.Column(min_width=300, scale=3):
        marks = gr.HTML(js_on_load=scripts.MARKER, elem_id='panda-marks', apply_default_css=False)
      with gr.Column(min_width=200, scale=2):
        with gr.Row():
          points = gr.Textbox(label='eyes: x,y,x,y in pixels', elem_id='panda-points', max_lines=1, min_width=160)
          box = gr.Textbox(label='or a box: x,y,width,height', elem_id='panda-box', max_lines=1, min_width=160)
        invert = gr.Button('Invert', variant='primary', elem_id='panda-invert', size='sm', min_width=80)
        with gr.Row():
          clear = gr.Button('Clear the marks', elem_id='panda-clear', size='sm', min_width=80)
          close = gr.Button('Close', elem_id='panda-close', size='sm', min_width=80)
      with gr.Column(min_width=300, scale=3):
        inverted = gr.HTML(js_on_load=None, elem_id='panda-inverted', apply_default_css=False)
    with gr.Row(elem_id='panda-panels'):
      options = {'apply_default_css': False}
      with gr.Column(min_width=150):
        original = gr.HTML(js_on_load=scripts.POINTER, elem_id='panda-original', **options)
      with gr.Column(min_width=150):
        edited = gr.HTML(elem_id='panda-edited', js_on_load=None, **options)
      with gr.Column(min_width=150):
        difference = gr.HTML(elem_id='panda-difference', js_on_load=None, **options)
    alpha = gr.Slider(-WIDEST, WIDEST, 0, step=0.01, label=f'strength {ALPHA}', elem_id='panda-alpha', buttons=[])
    status = gr.HTML(panels.message(HINT), elem_id='panda-status', js_on_load=None, apply_default_css=False)
    with gr.Row():
      part = gr.Dropdown(parts, label='part', value=None, elem_id='panda-part', min_width=120)
      appearance = gr.Dropdown(appearances, label='appearance', elem_id='panda-appearance', min_width=120)
      catalog = gr.Dropdown(
        entries, label='from the catalog', value=None, visible=bool(entries), elem_id='panda-catalog', min_width=240
      )
      mode = gr.Radio([PICK, PAINT], value=PICK, label='on the left picture', elem_id='panda-mode', min_width=240)
    with gr.Row():
      remove = gr.Button('Remove the part', elem_id='panda-remove', size='sm', min_width=120)
      keep = gr.Button('Keep, and add another', elem_id='panda-keep', size='sm', min_width=120)
      undo = gr.Button('Undo', elem_id='panda-undo', size='sm', min_width=120)
      masks = scripts.reader(LARGEST_UPLOAD)
      upload = gr.HTML(
        scripts.CHOOSER, js_on_load=masks, elem_id='panda-upload', apply_default_css=False, min_width=200
      )
      refine = gr.Checkbox(label='parts refined for each picture', elem_id='panda-refine', min_width=200)
    with gr.Row():
      several = len(fits.names) > 1
      fit = gr.Dropdown(
        fits.names, value=fits.names[0], label='fit', visible=several, elem_id='panda-fit', min_width=160
      )
      seeds = gr.Textbox(label='seeds, such as 3 or 0-3', elem_id='panda-seeds', max_lines=1, min_width=160)
      back = gr.Button('Previous', elem_id='panda-back', size='sm', min_width=100)
      forth = gr.Button('Next', elem_id='panda-next', size='sm', min_width=100)
      name = gr.Textbox(label='name to save as (optional)', elem_id='panda-name', max_lines=1, min_width=160)
      keeper = gr.Button('Save PNG, GIF and JSON', variant='primary', elem_id='panda-save', min_width=160)
      download = gr.Button('Download the photograph', visible=False, elem_id='panda-download', min_width=160)

    given = [fit, memory]
    live = [memory, edited, difference, status]
    everything = [*live, original, alpha, part, appearance, seeds, refine, download]
    marking = [held, section, marks, points, box, status]
    # What comes is checked by controls.py alone: Gradio's own checks end in tracebacks.
    private = {
      'api_visibility': 'private',
      'show_progress': 'hidden',
      'preprocess': False,
      'concurrency_id': 'page',
      'concurrency_limit': 4,  # of all together
    }

    def shown(controls: Controls, session: Session, said: str, at: str, kind: str = 'note') -> list:
      choice, engine = session.now, controls.engine
      term, reach = choice.current, engine.reach(choice.current)
      return [
        session.to_json(),
        *controls.pictures(session),
        panels.message(said or hint(choice), kind),
        controls.original(session, at),
        gr.update(minimum=-reach, maximum=reach, step=reach / 100, value=float(term.alpha)),
        gr.update(choices=engine.parts, value=term.part[0] if len(term.part) == 1 else None),
        gr.update(choices=engine.appearances, value=None if term.direction is not None else term.appearance),
        '' if choice.photograph else ','.join(map(str, choice.seeds)),
        choice.refined,
        gr.update(visible=engine.is_photograph(choice)),
      ]

    def saying(message: str, outputs: list) -> list:
      """Nothing changes but what is said."""
      return [message if output is status else gr.skip() for output in outputs]

    def refused(error: InputError, outputs: list) -> list:
      return saying(panels.message(sentence(error), 'error'), outputs)

    def told(fit: str, text: str, at: str, act: Callable[[Controls, Session], Any]) -> list:
      """Everything after an action. What it raises is said over the session as it was, or over a new one where that
      cannot be shown either."""
      try:
        controls = fits.controls(fit)
      except InputError as error:
        return refused(error, everything)
      session, said = controls.begun(), ''
      try:
        session = controls.session(text)
        after = act(controls, session)
        return shown(controls, *(after if isinstance(after, tuple) else (after, '')), at)
      except InputError as error:
        said = sentence(error)
      samples = dataclasses.replace(session.now, photograph=None)  # a photograph may be held no longer
      for instead in (session, Session(samples)):
        with contextlib.suppress(InputError):
          return shown(controls, instead, said, at, 'error')
      return shown(controls, controls.begun(), said, at, 'error')

    def on(listener, act: Callable, *inputs, busy: str = '') -> None:
      """`busy`: what is said meanwhile, of what takes seconds when it is done for the first time."""

      def handle(fit, text, at, *values):
        return told(fit, text, at, lambda controls, session: act(controls, session, *values))

      def slowly(*values):
        yield saying(panels.message(busy, 'busy'), everything)
        yield handle(*values)

      listener(slowly if busy else handle, [*given, mode, *inputs], everything, **private)

    def picked(fit, text, at, event: gr.EventData):
      return told(fit, text, at, lambda controls, session: controls.picked(session, event._data))

    def painted(fit, text, at, event: gr.EventData):
      return told(fit, text, at, lambda controls, session: controls.painted(session, event._data))

    def uploaded(fit, text, at, event: gr.EventData):
      return told(fit, text, at, lambda controls, session: controls.uploaded(session, event._data))

    def slid(fit, text, strength):
      try:
        controls = fits.controls(fit)
        session = controls.slid(controls.session(text), strength)
        return [session.to_json(), *controls.pictures(session), panels.message(hint(session.now))]
      except InputError as error:
        return refused(error, live)

    def saved(fit, text, chosen_name):
      yield panels.message('Saving …', 'busy')
      try:
        controls = fits.controls(fit)
        chosen_name = chosen_name.strip() if isinstance(chosen_name, str) else chosen_name
        written = save(controls.engine, controls.session(text).now, chosen_name or '')
        yield panels.saved_message(written, fits.number(fit))
      except InputError as error:
        yield panels.message(sentence(error), 'error')

    def chosen(fit, text, at):
      """Another fit: its parts, appearances and catalog, on the seeds that were shown."""
      outputs = [*everything, head, catalog]
      yield saying(panels.message('Loading …', 'busy'), outputs)
      try:
        controls = fits.controls(fit)
      except InputError as error:
        yield refused(error, outputs)
        return
      entries = fits.entries(fit)
      begun = told(fit, '', at, lambda controls, session: controls.with_seeds_of(session, text))
      yield [*begun, _head(controls.engine), gr.update(choices=entries, value=None, visible=bool(entries))]

    def loaded(fit, at):
      yield from chosen(fit, '', at)

    def marked(fit, key, points, box) -> list:
      """A photograph with these marks."""
      try:
        panel, said, kind = fits.controls(fit).marks(key, points, box)
        return [key, gr.update(visible=True), panel, points, box, panels.message(said, kind)]
      except InputError as error:
        return refused(error, marking)

    def taken(fit, event: gr.EventData):
      outputs = [*marking, inverted]
      yield saying(panels.message('Reading …', 'busy'), outputs)
      try:
        yield [*marked(fit, fits.controls(fit).taken(event._data), '', ''), '']
      except InputError as error:
        yield refused(error, outputs)

    def prepared(fit):
      """Compiles, while the eyes are clicked."""
      try:
        fits.controls(fit).engine.prepare()
        return gr.skip()
      except InputError as error:
        return panels.message(sentence(error), 'error')

    def clicked(fit, key, points, event: gr.EventData):
      try:
        return marked(fit, key, fits.controls(fit).marked(key, points, event._data), '')
      except InputError as error:
        return refused(error, marking)

    def dragged(fit, key, event: gr.EventData):
      try:
        return marked(fit, key, '', fits.controls(fit).boxed(key, event._data))
      except InputError as error:
        return refused(error, marking)

    def inverting(fit, text, at, key, points, box):
      outputs = [*everything, inverted]
      yield saying(panels.message('Inverting …', 'busy'), outputs)
      try:
        controls = fits.controls(fit)
        steps = controls.inverting(controls.session(text), key, points, box)
        while True:
          yield saying(panels.message(next(steps), 'busy'), outputs)
      except StopIteration as done:
        session, said, panel = done.value
        yield [*shown(controls, session, said, at), panel]
      except InputError as error:
        yield refused(error, outputs)

    def downloaded(fit, text):
      yield panels.message('Writing the whole photograph …', 'busy')
      try:
        controls = fits.controls(fit)
        yield panels.download_message(*controls.download(controls.session(text)))
      except InputError as error:
        yield panels.message(sentence(error), 'error')

    original.picked(picked, [*given, mode], everything, **private)
    original.painted(painted, [*given, mode], everything, **private)
    upload.uploaded(uploaded, [*given, mode], everything, **private)
    alpha.input(slid, [*given, alpha], live, trigger_mode='always_last', **private)
    fit.input(chosen, [*given, mode], [*everything, head, catalog], **private)
    on(part.input, Controls.with_part, part)
    on(appearance.input, Controls.with_appearance, appearance)
    on(catalog.input, Controls.from_catalog, catalog)
    on(mode.input, lambda controls, session: session)
    on(refine.input, Controls.refined, refine, busy='Refining …')
    on(remove.click, Controls.removed, busy='Removing the part …')
    on(keep.click, Controls.kept)
    on(undo.click, Controls.undone)
    on(seeds.submit, Controls.with_seeds, seeds)
    on(back.click, lambda controls, session: controls.next_seeds(session, -1))
    on(forth.click, lambda controls, session: controls.next_seeds(session, 1))
    keeper.click(saved, [*given, name], status, **private)
    one = private | {'concurrency_id': 'photographs', 'concurrency_limit': 1}  # they take much memory
    alone = private | {'concurrency_id': 'inversions', 'concurrency_limit': 1}  # and these all cores
    first = private | {'concurrency_id': 'first photograph', 'concurrency_limit': 1}
    drop.uploaded(taken, [fit], [*marking, inverted], **one).then(prepared, [fit], status, **first)
    marks.marked(clicked, [fit, held, points], marking, **private)
    marks.boxed(dragged, [fit, held], marking, **private)
    for field in (points, box):
      field.submit(marked, [fit, held, points, box], marking, **private)
    clear.click(lambda fit, key: marked(fit, key, '', ''), [fit, held], marking, **private)
    close.click(lambda: gr.update(visible=False), None, section, **private)
    invert.click(inverting, [*given, mode, held, points, box], [*everything, inverted], **alone).then(
      None, js=scripts.SHOW
    )
    download.click(downloaded, given, status, **one).then(None, js=scripts.FETCH)
    blocks.load(loaded, [fit, mode], [*everything, head, catalog], **private)
  blocks.state_session_capacity = 16  # the page holds what is chosen; Gradio would keep every page's last pictures
  return blocks.queue(max_size=200)
