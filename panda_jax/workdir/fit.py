"""A fit into a folder: from a configuration to files. It resumes where a killed run stopped."""

import contextlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import ml_collections

from panda_jax.errors import InputError, refusal
from panda_jax.features.scan import sha256_of
from panda_jax.features.sources import FeatureSource
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import npy_bytes
from panda_jax.files.links import check_no_links, check_no_links_below
from panda_jax.files.lock import locked
from panda_jax.files.records import read_json, write_json
from panda_jax.runtime import processes, signals
from panda_jax.runtime.clock import Clock
from panda_jax.runtime.environment import versions
from panda_jax.runtime.memory import Peak
from panda_jax.runtime.progress import Progress
from panda_jax.solver.factors import checked_name
from panda_jax.solver.fit import FitResult, fit
from panda_jax.solver.held_out import relative_error
from panda_jax.solver.state import SolverState
from panda_jax.workdir import checkpoints, suggestions, tensorboard
from panda_jax.workdir.autosave import Saving, checkpointed, kept, write_history
from panda_jax.workdir.config import check_values, config_form, default_config
from panda_jax.workdir.finished_fit import SUMMARY
from panda_jax.workdir.fit_features import Features, Shelf, held_out_named, provenance_of
from panda_jax.workdir.fit_pictures import Pictures

OUTPUTS = (
  'config.json',
  'factors.npz',
  'appearances.npy',
  'parts.npy',
  'summary.json',
  'history.jsonl',
  'parts.png',
  'convergence.png',
  'spectrum.png',
  'overlay.png',
  'saliency.png',
  'report.html',
)
FINISHED = 'the fit is finished'
# Keys that may differ between processes.
OF_ONE_PROCESS = ('features', 'generator', 'held_out_features', 'checkpoint_seconds')
ANEW = 'use --overwrite to start again'
# Keys that change the speed of a fit, or when it is saved, but not its result.
WITHOUT_EFFECT = ('features', 'generator', 'batch', 'store', 'checkpoint_seconds')


def prepare(workdir: Path, config: dict, overwrite: bool) -> None:
  """Accepts a locked folder that is empty or of the same configuration; with `overwrite`, deletes our files in it.

  Raises:
    InputError: it cannot be written, holds a fit of another configuration or files that a fit would replace, or has a
      symbolic link where a fit writes.
  """
  check_no_links(workdir, (*OUTPUTS, '.*.tmp'))
  check_no_links_below(workdir, 'checkpoints')
  if overwrite:
    try:
      for name in OUTPUTS:
        (workdir / name).unlink(missing_ok=True)
      if (workdir / 'checkpoints').exists():
        shutil.rmtree(workdir / 'checkpoints')
    except OSError as error:
      raise refusal('workdir', workdir, 'files of an earlier fit cannot be removed', error) from error
  record = workdir / 'config.json'
  if os.path.lexists(record):
    agree(workdir, read_config(workdir), config)
  else:
    there = [name for name in (*OUTPUTS, 'checkpoints') if os.path.lexists(workdir / name)]
    if there:
      raise InputError(
        'workdir',
        workdir,
        f'{there[0]} is there, without a record of its fit',
        'choose another folder or use --overwrite',
      )


def read_config(workdir: Path) -> dict:
  """The recorded configuration of a fit."""
  return read_json(workdir / 'config.json', 'workdir', config_form(), ANEW)


def agree(workdir: Path, old: dict, new: dict) -> None:
  """Raises unless the keys that matter are equal in both configurations; the error names the first that differs."""
  for key in sorted((old.keys() | new.keys()) - {*WITHOUT_EFFECT}):
    if key in old and key in new and old[key] != new[key]:
      raise InputError(
        'workdir',
        workdir,
        f'it holds a fit of another configuration ({key} was {old[key]}, now {new[key]})',
        'choose another folder or use --overwrite',
      )


def checked_path(workdir: str | os.PathLike) -> Path:
  """The path of a workdir; its characters must suit every library here."""
  try:
    text = os.fspath(workdir).encode()
  except UnicodeEncodeError:
    text = b'\0'
  if b'\0' in text:
    raise InputError('workdir', workdir, 'its name holds bytes that are not text', 'choose another name')
  return Path(workdir)


def fit_into(
  workdir: Path,
  config: ml_collections.ConfigDict,
  *,
  overwrite: bool = False,
  published: str | None = None,
  verbose: bool = False,
  clock: Clock | None = None,
  shelf: Shelf | None = None,
  progress: Progress | None = None,
  for_tensorboard: bool = False,
) -> dict:
  """Runs the fit that `config` describes and writes every file of a workdir, see docs/reference/files.md.

  Args:
    workdir: created if it does not exist. A finished fit of the same configuration is not repeated; an unfinished fit
      resumes from its last checkpoint.
    config: see `config.default_config`.
    overwrite: delete the files of an earlier fit.
    published: a name; also write the authors' pair of .npy files under it.
    verbose: show all reasons for the choice where features are kept.
    clock: running since the process started, so that totals include the start.
    shelf: source of features, for fits that share them.
    progress: the display for the user; a new one for this fit if left out.
    for_tensorboard: also write files for TensorBoard, see `workdir.tensorboard`.

  Returns:
    The content of summary.json.

  Raises:
    InputError: an argument cannot be used, files cannot be written, or another process writes there.
    Interrupted: Ctrl-C or SIGTERM came; the state is saved.
  """
  clock, peak = clock or Clock(), Peak()
  workdir = checked_path(workdir)
  settings = config.to_dict()
  check_values(settings, default_config())
  if published is not None:
    checked_name(published)
  if for_tensorboard:
    tensorboard.check_installed()
  processes.agree({k: v for k, v in settings.items() if k not in OF_ONE_PROCESS} | versions())
  shelf = shelf or Shelf()
  features = processes.together(lambda: shelf.features(config))
  source = features.fitted
  if config.parts is None:
    raise InputError('parts', None, 'not given', 'give --parts=R_S, e.g. --parts=8')
  if not config.checkpoint_seconds >= 0:
    raise InputError('checkpoint_seconds', config.checkpoint_seconds, 'negative', 'give 0 or more seconds')
  if processes.several():
    processes.agree({'features' if source.kind == 'file' else 'generator': source.digest().hexdigest()})

  def take() -> None:
    held.enter_context(locked(workdir))
    prepare(workdir, settings, overwrite)

  def told() -> str | None:
    if not processes.first():  # this process may not see the folder
      return None
    return FINISHED if os.path.lexists(workdir / 'summary.json') else kept(checkpointed(workdir))

  with contextlib.ExitStack() as held, signals.keeping(told, FINISHED):
    processes.on_first(take)
    events = tensorboard.Events(workdir, settings) if for_tensorboard and processes.first() else None
    progress = progress or Progress(source.samples)
    return _fit_into(workdir, config, features, shelf, published, verbose, clock, peak, progress, events)


def _fit_into(
  workdir: Path,
  config: ml_collections.ConfigDict,
  features: Features,
  shelf: Shelf,
  published: str | None,
  verbose: bool,
  clock: Clock,
  peak: Peak,
  progress: Progress,
  events: tensorboard.Events | None,
) -> dict:
  """The fit, in a folder that is locked and prepared."""
  settings, record, source = config.to_dict(), workdir / 'config.json', features.fitted

  def found_before() -> dict:
    """Of an earlier run: the summary if it is finished, else the hash of its source and whether it has saved."""
    sha256 = read_config(workdir).get('sha256') if record.exists() else None
    if not os.path.lexists(workdir / 'summary.json'):
      return {'sha256': sha256, 'saved': checkpointed(workdir)}
    summary = read_json(workdir / 'summary.json', 'workdir', SUMMARY, ANEW)
    agree(workdir, {'sha256': sha256}, {'sha256': sha256_of(source, like=sha256)})
    return {'summary': summary}

  def check(sha256: str) -> None:
    if record.exists():
      agree(workdir, read_config(workdir), {'sha256': sha256})
    write_json(record, settings | {'sha256': sha256})

  def resume(sha256: str) -> SolverState | None:
    state = saving.resume(sha256)
    if events is not None:
      events.begin(0 if state is None else len(state.history))
    return state

  def on_state(state: SolverState) -> None:
    if events is not None:
      events.state(state)
    saving.on_state(state)

  closed = contextlib.nullcontext() if events is None else contextlib.closing(events)
  with progress, closed, ThreadPoolExecutor(1) as thread:
    pictures = Pictures(source, thread)
    before = json_of_first(processes.on_first(found_before))
    if 'summary' in before:
      progress.say(f'{workdir}: this fit is finished; --overwrite does it again')
      return before['summary']
    for note in source.notes:
      progress.say(f'note: {note}')
    if processes.several() and source.samples is not None:
      progress.say(str(processes.Shares.of(source.samples)))
    if processes.first():
      thread.submit(checkpoints.load)
      pictures.prepare()
    with signals.caught() as caught:
      most = checkpoints.largest(source.positions, source.channels, config.parts)
      saving = Saving(workdir, config.checkpoint_seconds, most, caught, before['saved'], check, clock, progress)
      clock.on_compile = progress.compiling
      with signals.keeping(saving.kept):
        held_out = None
        if features.held_out is not None:  # errors in it come before the fit
          with clock.phase('features'), held_out_named(config.held_out_features):
            held_out = shelf.taken(
              features.held_out,
              'none',
              config.store,
              config.storage,
              None,
              config.batch,
              hashed=False,
              like=None,
              on_plan=lambda plan: None,
              on_samples=saving.on_samples,
            )
        result = fit(
          source,
          parts=config.parts,
          appearances=config.appearances,
          seed=config.seed,
          restarts=config.restarts,
          joint=config.joint,
          orthonormal=config.orthonormal,
          center=config.center,
          rotation=config.rotation,
          precision=config.precision,
          store=config.store,
          storage=config.storage,
          batch=config.batch,
          max_iterations=config.max_iterations,
          progress=False,  # `saving` shows it
          provenance=provenance_of(config, source),
          clock=clock,
          resume=resume,
          like=before['sha256'],
          take=shelf.taken,
          on_plan=lambda plan: progress.say(f'{size_of(source)}, {plan if verbose else plan.brief()}'),
          on_state=on_state,
          on_samples=saving.on_samples,
        )
        saving.finish()
        told = {'memory': peak.bytes()}
        if held_out is not None:
          error = relative_error(held_out, result.factors, clock, config.precision, config.batch)
          told['held_out'] = {'samples': held_out.scan.samples, 'relative_error': error}
    with signals.keeping(saving.kept):
      write = partial(write_results, workdir, result, told, clock, published, config.layer, pictures)
      summary = json_of_first(processes.on_first(write))
      if events is not None:
        events.end(result, summary)
    for warning in result.warnings[len(source.notes) :]:  # the others were shown at the start
      progress.say(f'note: {warning}')
    progress.say(f'{outcome(summary)}, {summary["seconds"]["total"]:.1f} s in all; results in {workdir}')
    numbered = 'overlay.png' if source.kind == 'generator' else 'parts.png'
    progress.say(f'{numbered} there shows each part with its number')
    following = suggestions.commands(workdir, result.factors, summary.get('strength', suggestions.USUAL))
    progress.say(f'next: {following.get("edit") or following["saliency"]}')
    progress.say(f'  or: {following["report"]}')
  return summary


def size_of(source: FeatureSource) -> str:
  """The shape of the features in words, so that a wrong layout is seen."""
  samples = 'samples' if source.samples is None else f'{source.samples} samples'
  H, W = source.grid
  return f'features of {samples}, {H} x {W} positions, {source.channels} channels'


def outcome(summary: dict) -> str:
  """The relative errors of a fit in words."""
  text = f'relative error {summary["relative_error"]:.5f} ({summary["reason"]})'
  if 'held_out' not in summary:
    return text
  found = summary['held_out']
  return f'{text}, {found["relative_error"]:.5f} on {found["samples"]} held-out samples'


def json_of_first(value: dict | None) -> dict:
  """The JSON values of process 0, in all processes."""
  return json.loads(processes.from_first(json.dumps(value).encode())) if processes.several() else value


def write_results(
  workdir: Path,
  result: FitResult,
  told: dict,
  clock: Clock,
  published: str | None,
  layer: int | None,
  pictures: Pictures,
) -> dict:
  """Writes factors, tables and pictures; summary.json comes last and marks the fit as finished.

  `told`: further entries of summary.json, JSON values.
  """
  factors = result.factors
  factors.save(workdir / 'factors.npz')
  write_atomically(workdir / 'appearances.npy', npy_bytes(factors.appearances))
  write_atomically(workdir / 'parts.npy', npy_bytes(factors.parts))
  if published is not None:
    factors.save_published(workdir, published, 0 if layer is None else layer)
  write_history(workdir, result.history)
  with clock.phase('draw'):
    try:
      features = pictures.draw(workdir, result)
      strength = None if features is None else suggestions.strength_for(features)
    except OSError as error:
      raise refusal('workdir', workdir, 'a picture could not be written', error) from error
  seconds = clock.summary()
  summary = {
    'relative_error': result.relative_error,
    **told,
    'reason': result.reason,
    'gap': result.gap,
    'warnings': result.warnings,
    'seconds': {k: round(v, 3) for k, v in seconds.items()},
    'counts': {
      'samples': factors.provenance['samples'],
      'positions': factors.parts.shape[0],
      'channels': factors.appearances.shape[0],
      'parts': factors.parts.shape[1],
      'appearances': factors.appearances.shape[1],
      'iterations': len(result.history),
    },
    'part_energy': [round(float(x), 6) for x in result.part_energy],
    'versions': versions(),
    'devices': [str(device.device_kind) for device in jax.devices()],
    'processes': jax.process_count(),
  }
  if strength is not None:
    summary['strength'] = strength
  write_json(workdir / 'summary.json', summary)
  return summary
