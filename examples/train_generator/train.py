"""The training loop: it takes batches and writes checkpoints, metrics, sample grids and snapshots of the generator."""

import json
import os
import shutil
import time
from pathlib import Path

import jax
import ml_collections
import numpy as np

from examples.train_generator import data, steps
from examples.train_generator.saving import Checkpoints
from panda_jax.errors import InputError, Interrupted, NonFiniteError, refusal
from panda_jax.features.sharding import data_mesh
from panda_jax.files.access import write_atomically
from panda_jax.files.lock import LOCK, locked
from panda_jax.generators.disk import read_description, save_generator
from panda_jax.pictures.figures import draw_images
from panda_jax.runtime import signals
from panda_jax.runtime.environment import versions
from panda_jax.runtime.progress import Progress
from panda_jax.workdir.autosave import checkpointed, kept

RECORD, METRICS, SAMPLES, SNAPSHOTS, RESULT = 'training.json', 'metrics.jsonl', 'samples', 'snapshots', 'generator'
SHOWN = 64
# Keys that may change between two runs of one training.
FREE = ('images', 'log_images', 'sample_images', 'snapshot_images', 'checkpoint_seconds')


def train_into(
  workdir: Path, config: ml_collections.ConfigDict, images: str | os.PathLike, overwrite: bool = False
) -> Path:
  """Trains the GAN of a configuration, or resumes it; returns the folder of the averaged generator.

  In `workdir`: training.json (settings and data), metrics.jsonl (one line per `log_images`), samples/ (a grid per
  `sample_images`, always of the same z), snapshots/ (the averaged generator per `snapshot_images`), checkpoints/ and,
  at the end, generator/.

  Args:
    workdir: created if it does not exist. One with another training raises an error without `overwrite`.
    config: see configs/.
    images: zip file or folder.
    overwrite: delete the files of an earlier training.

  Raises:
    InputError: the configuration, the images or the folder cannot be used.
    NonFiniteError: a loss, a gradient or a weight is NaN or infinite. The last checkpoint is from before.
    Interrupted: Ctrl-C or SIGTERM came; the state is saved.
  """
  mesh = data_mesh()
  steps.check(config, mesh.size)
  with Progress() as progress:
    found = data.read_images(images, lambda name, n: progress.now(f'{name} {n} images'))
    if found.pixels.shape[1] != config.resolution:
      side = found.pixels.shape[1]
      raise InputError('data', images, f'its images are {side}x{side}', f'give images of {config.resolution} pixels')
    progress.now('looking for pictures of the same photograph')
    shown = data.photographs(found.pixels)
    index, held = data.split(shown)
    if len(index) < config.batch:
      raise InputError('data', images, f'{len(found.names)} images are too few', f'give {2 * config.batch} or more')
    record = {
      'config': json.loads(config.to_json()),
      'data': {
        'file': Path(images).name,
        'images': len(found.names),
        'trained': len(index),
        'held_out': len(held),
        'sha256': found.sha256,
      },
    }
    finished = 'the training is finished'
    with locked(workdir), signals.keeping(lambda: kept(checkpointed(workdir)), finished):
      _claim(workdir, record, overwrite)
      pixels = data.softened(found.pixels, config.aliasing)
      batches = data.Batches(pixels, index, shown, config.batch, config.seed)
      run = _Run(workdir, config, steps.prepare(config, mesh), batches, record, progress)
      try:
        return run.to_the_end()
      finally:
        run.checkpoints.close()


def _claim(workdir: Path, record: dict, overwrite: bool) -> None:
  """Prepares a locked folder, unless it has another training."""
  try:
    path = workdir / RECORD
    if overwrite:
      for name in (RECORD, METRICS, SAMPLES, SNAPSHOTS, RESULT, 'checkpoints'):
        where = workdir / name
        shutil.rmtree(where) if where.is_dir() else where.unlink(missing_ok=True)
    if path.exists():
      there = json.loads(path.read_text())
      differing = [
        name
        for name in sorted({*there['config'], *record['config']})
        if name not in FREE and there['config'].get(name) != record['config'].get(name)
      ]
      differing += ['data'] * (there['data']['sha256'] != record['data']['sha256'])
      if differing:
        raise InputError(
          'workdir', workdir, f'it holds a training with another {differing[0]}', 'choose another or use --overwrite'
        )
    elif {*os.listdir(workdir)} - {LOCK}:
      raise InputError('workdir', workdir, 'it holds something else', 'choose another folder or use --overwrite')
    write_atomically(path, (json.dumps(record, indent=2) + '\n').encode())
  except OSError as error:
    raise refusal('workdir', workdir, 'it cannot be written', error) from error
  except InputError:  # InputError is a ValueError too
    raise
  except (ValueError, KeyError) as error:
    raise InputError('workdir', workdir, f'its {RECORD} is damaged', 'use --overwrite to start anew') from error


def begun(config: dict) -> dict:
  """What a snapshot tells about the generator that its training began with: its name and how it was trained."""
  if not config['initial']:
    return {}
  named = config | {'initial': Path(config['initial']).name}  # of this machine's folders only the last
  return {'config': named, 'initial': read_description(config['initial']).get('training', {})}


class _Run:
  """One run of the loop, from the last checkpoint or the start."""

  def __init__(self, workdir, config, training: steps.Training, batches, record, progress):
    self.workdir, self.config, self.training, self.batches = workdir, config, training, batches
    self.record = record | begun(record['config'])  # read once: the folder may be replaced meanwhile
    self.progress = progress
    self.checkpoints = Checkpoints(workdir / 'checkpoints')
    self.pending: list[dict] = []  # metrics still on the device
    z = np.random.default_rng(config.seed).standard_normal((SHOWN, config.z_dim))
    self.z = z.astype(np.float32)

  def to_the_end(self) -> Path:
    config, training = self.config, self.training
    state = training.begin()
    restored = self.checkpoints.restore(state)
    if restored is not None:
      state = restored
    images = int(state.images)
    self._drop_later_lines(images)
    self.progress.say(f'training on {jax.device_count()} {jax.devices()[0].platform} device(s) from image {images}')
    self.logged, self.told, self.saved = images, time.monotonic(), time.monotonic()
    with signals.caught() as caught:
      while images < config.images and not caught:
        step = images // config.batch
        reals = jax.device_put(self.batches[step], training.batches)
        state, metrics = training.adversarial(state, reals, learns=images >= config.discriminator_images)
        if step % config.r1_every == 0:
          state, more = training.discriminator_penalty(state, reals)
          metrics |= more
        if config.path_weight and step % config.path_every == 0:
          state, more = training.path_penalty(state)
          metrics |= more
        self.pending.append(metrics)
        before, images = images, images + config.batch
        if self._passed(config.log_images, before, images):
          self._log(images)
        if self._passed(config.sample_images, before, images):
          self._show(state, images)
        if self._passed(config.snapshot_images, before, images):
          self._export(state, images, self.workdir / SNAPSHOTS / f'{images:08d}')
        if time.monotonic() - self.saved >= config.checkpoint_seconds:
          self._save(state, images)
      self._save(state, images)
    if caught:
      raise Interrupted(caught[0])
    self._show(state, images)
    return self._export(state, images, self.workdir / RESULT)

  @staticmethod
  def _passed(every: int, before: int, now: int) -> bool:
    return now // every > before // every

  def _log(self, images: int) -> None:
    """Writes the means of the metrics since the last line."""
    if not self.pending:
      return
    means: dict[str, float] = {}
    rows = jax.device_get(self.pending)
    self.pending = []
    for name in dict.fromkeys(name for row in rows for name in row):
      means[name] = float(np.mean([row[name] for row in rows if name in row]))
    wrong = [name for name, value in means.items() if not np.isfinite(value)]
    if wrong:
      raise NonFiniteError(
        wrong[0],
        means[wrong[0]],
        f'not finite between images {self.logged} and {images}',
        'go on from the last checkpoint with a lower --config.learning_rate, in another workdir',
      )
    now = time.monotonic()
    rate = (images - self.logged) / (now - self.told)
    line = {'images': images, 'images_per_second': round(rate, 2), **means}
    with (self.workdir / METRICS).open('a') as file:
      file.write(json.dumps(line) + '\n')
    self.logged, self.told = images, now
    left = (self.config.images - images) / rate
    self.progress.now(
      f'{images} of {self.config.images} images, {rate:.1f} images/s, {left / 60:.0f} min left, '
      f'losses {means["generator_loss"]:.3f} and {means["discriminator_loss"]:.3f}'
    )

  def _drop_later_lines(self, images: int) -> None:
    """Drops lines after the checkpoint, which will be written again, and a truncated line."""
    path = self.workdir / METRICS
    if not path.exists():
      return
    kept = []
    for text in path.read_text().splitlines():
      try:
        if json.loads(text)['images'] <= images:
          kept.append(text + '\n')
      except (ValueError, KeyError):
        continue
    write_atomically(path, ''.join(kept).encode())

  def _save(self, state: steps.TrainState, images: int) -> None:
    self._log(images)
    self._check(state, images)
    self.checkpoints.save(state)
    self.saved = time.monotonic()

  def _check(self, state: steps.TrainState, images: int) -> None:
    if not bool(self.training.finite(state)):
      raise NonFiniteError(
        'weights',
        'NaN or infinity',
        f'after {images} images',
        'go on from the last checkpoint with a lower --config.learning_rate, in another workdir',
      )

  def _show(self, state: steps.TrainState, images: int) -> None:
    folder = self.workdir / SAMPLES
    folder.mkdir(exist_ok=True)
    draw_images(folder / f'{images:08d}.png', np.asarray(self.training.show(state, self.z)))

  def _export(self, state: steps.TrainState, images: int, folder: Path) -> Path:
    self._check(state, images)
    description = {'training': {'images': images, **self.record, 'versions': versions()}}
    save_generator(self.training.exported(state), folder, description, overwrite=folder.exists())
    return folder
