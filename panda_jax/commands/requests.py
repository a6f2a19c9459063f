"""From the flags of `panda-jax edit` and similar commands to a fit, samples and edits."""

import dataclasses
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panda_jax.commands import options as shared
from panda_jax.editing import annotations, masks, zoo
from panda_jax.editing.zoo import NamedEdit, Spec
from panda_jax.errors import InputError, brief
from panda_jax.files.arrays import read_npy
from panda_jax.generators import latent_files
from panda_jax.generators.labels import parsed_labels
from panda_jax.generators.latent_files import Latents
from panda_jax.generators.seeds import draws, parsed_numbers
from panda_jax.inversion.files import Inverted, is_inverted, load_inverted
from panda_jax.workdir.finished_fit import FinishedFit, open_workdir
from panda_jax.workdir.samples import Samples

BETWEEN = '/'  # separates several edits
LONGEST_NAME = 100  # characters of a folder's name
FILES = ('.npy', '.npz', '.png')
# Flags of edits and removals that are part of a folder's name.
DISTINCT = 'combine', 'feather', 'mask', 'latents', 'space', 'labels', 'noise', 'drop_rgb', 'compose'
STRENGTHS = 'give --alpha=3, --alpha=-3,0,3 for a sweep, or --alpha=3/-2 for two edits'
MADE_BY = ('part', 'appearance', 'alpha', 'mask', 'directions')  # flags that define a new edit


@dataclasses.dataclass(frozen=True)
class Request:
  """A fit and its edits.

  Attributes:
    opened: the fit.
    edits: {name: specs that are added up}.
    name: default name of the folder.
  """

  opened: FinishedFit
  edits: dict[str, list[Spec]]
  name: str

  def annotate(self, path: str, name: str, overwrite: bool = False) -> None:
    """Adds the edit to a zoo.

    Raises:
      InputError: there are several edits, or the name is used.
    """
    if len(self.edits) > 1:
      raise InputError('annotate', name, f'there are {len(self.edits)} edits', 'give one, or --add to add them up')
    (specs,) = self.edits.values()
    named = NamedEdit(self.opened.digest_factors, self.opened.layer, tuple(specs))
    zoo.annotate(path, name, named, overwrite)


def parsed_part(text: str | None) -> tuple[int, ...]:
  """Parts joined to one mask, from '3' or '3,4'."""
  if text is None:
    raise InputError('part', None, 'not given', 'give --part=3, or --part=3,4 for both as one')
  return _indices(text, 'part', text)


def parsed_index(text: str, argument: str) -> int:
  """One 0-based index."""
  return _index(text, argument, text)


def _index(piece: str, argument: str, text: str) -> int:
  """The index in a piece of the whole text."""
  if not piece.strip().removeprefix('-').isdecimal() or len(piece) > 12:
    problem = 'not a whole number' if piece == text else f'{brief(piece, 40) or "nothing"} is not a whole number'
    raise InputError(argument, text, problem, f'give --{argument}=3')
  return int(piece)


def _appearance(piece: str, text: str) -> int:
  """The appearance in a piece of the whole text. Several, in the notation of `saliency`, raise an error."""
  if re.fullmatch(r'\d+(,\d+)+', text):
    numbers = text.split(',')
    remedy = f'give --appearance={BETWEEN.join(numbers)} for {len(numbers)} edits'
    raise InputError('appearance', text, 'an edit has one appearance', remedy)
  return _index(piece, 'appearance', text)


def _indices(piece: str, argument: str, text: str) -> tuple[int, ...]:
  return tuple(_index(one, argument, text) for one in piece.split(','))


def parsed_indices(text: str | None, argument: str) -> tuple[int, ...]:
  """0-based indices from '0' or '0,3'."""
  if text is None:
    raise InputError(argument, None, 'not given', f'give --{argument}=0, or --{argument}=0,3')
  return _indices(text, argument, text)


def parsed_alpha(text: str) -> float | tuple[float, ...]:
  """A strength, or a sweep from '-3,0,3'."""
  return _alpha(text, text)


def _alpha(piece: str, text: str) -> float | tuple[float, ...]:
  try:
    found = tuple(float(one) for one in piece.split(','))
  except ValueError:
    problem = (
      'not a number, nor a list of them' if piece == text else f'{brief(piece, 40) or "nothing"} is not a number'
    )
    raise InputError('alpha', text, problem, STRENGTHS) from None
  if not all(math.isfinite(x) for x in found):
    raise InputError('alpha', text, 'it is not finite', 'give a finite number')
  return found if len(found) > 1 else found[0]


def parsed_fraction(text: str | None) -> float | None:
  """A threshold of a mask."""
  try:
    return None if text is None else float(text)
  except ValueError:
    raise InputError(
      'threshold', text, 'it is a fraction of the largest entry', 'give one above 0 and up to 1'
    ) from None


def parsed_method(text: str | None) -> str | float:
  """A threshold of saliency maps: a number, or the name of a rule."""
  try:
    return 'mean' if text is None else float(text)
  except ValueError:
    return text


def given_fit(options: Any) -> FinishedFit:
  """The fit in --workdir, with the generator of --generator if given."""
  if not options.workdir:
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR, the folder of a fit')
  return open_workdir(options.workdir, options.generator)


def given_generator(options: Any):
  """The generator in --generator."""
  from panda_jax.generators import load_generator

  return load_generator(shared.given_generator(options))


def given_latents(options: Any, generator) -> Latents | Inverted | None:
  """The latents in --latents, of the space --space, or inverted photographs; None without --latents."""
  if options.latents is not None:
    if options.seeds is not None:
      raise InputError('seeds', options.seeds, 'given together with --latents', 'give one of them')
    return read_latents(options.latents, generator, options.space, options.labels)
  if options.space is not None:
    raise InputError('space', options.space, 'given without --latents', 'give --latents=FILE too')
  return None


def read_latents(path: str, generator, space: str | None, labels: object = None) -> Latents | Inverted:
  """Latents from a file, or from the folder of an inversion, which needs no space and labels."""
  if not is_inverted(path):
    return latent_files.read(path, generator, space)
  for name, value in (('space', space), ('labels', labels)):
    if value is not None:
      raise InputError(name, value, 'the folder of an inversion says it', 'leave it out')
  return load_inverted(path, generator)


def drawn(options: Any, generator) -> Latents:
  """z of --seeds."""
  return Latents(draws(generator, parsed_numbers(options.seeds, 'seeds')), 'z')


def given_samples(options: Any, opened: FinishedFit, seeds: Sequence[int] | None = None) -> Samples:
  """The samples of --seeds or --latents, with their --labels; without both flags, those of `seeds`."""
  labels = parsed_labels(options.labels)
  if options.latents is None and options.space is None:
    named = options.seeds is not None or seeds is None
    samples = Samples(tuple(parsed_numbers(options.seeds or shared.SEEDS, 'seeds') if named else seeds), labels=labels)
  else:
    samples = Samples(given=given_latents(options, opened.needed_generator()), labels=labels)
  if samples.photographs is None and 'compose' in options and options['compose'].present:
    remedy = 'leave it out, or give --latents=DIR of `invert`'
    raise InputError('compose', options.compose, 'these samples are not photographs', remedy)
  if samples.noise is not None and 'noise' in options and options['noise'].present and options.noise != samples.noise:
    problem = f'the photographs were inverted with noise {samples.noise}'
    raise InputError('noise', options.noise, problem, 'leave it out, or invert again')
  return samples


def given_to_explain(options: Any, opened: FinishedFit, seeds: Sequence[int]) -> tuple[Samples | None, str | None]:
  """(samples, features) of --seeds, --latents, --labels or --features; None for what is not given."""
  named = [name for name in ('seeds', 'latents', 'space', 'labels') if options[name].value is not None]
  if options.features is not None and named:
    problem = f'given together with --{named[0]}, which is of samples of a generator'
    raise InputError('features', options.features, problem, 'give one of --features and --seeds')
  return (given_samples(options, opened, seeds) if named else None), options.features


def given_mask(options: Any, opened: FinishedFit):
  """The drawn mask of --mask on the feature grid (S,), or None."""
  if options.mask is None:
    return None
  return masks.read_mask(options.mask, opened.factors.grid, opened.image_size(), opened.margin)


def requested(options: Any) -> Request:
  """The edits of the flags: part, appearance, alpha, ..., or zoo and name.

  Raises:
    InputError: flags are missing, malformed, or do not go together.
  """
  if options.annotate and not options.zoo:
    raise InputError('annotate', options.annotate, 'there is no zoo to write to', 'give --zoo=FILE.json')
  made = [name for name in MADE_BY if options[name].value is not None]
  if options.zoo and not options.annotate:
    if made:
      raise InputError(
        made[0], options[made[0]].value, 'the edit comes from the zoo', 'leave it out, or give --annotate=NAME'
      )
    return _from_zoo(options)
  opened = given_fit(options)
  return Request(opened, *_from_flags(options, opened))


def _from_zoo(options: Any) -> Request:
  if not options.name:
    raise InputError('name', None, 'not given', 'give --name=NAME, an edit of the zoo')
  names = options.name.split(',')
  if options.zoo.endswith('.py'):
    opened, edits = _from_annotated(options, names)
  else:
    opened, found = given_fit(options), zoo.read_zoo(options.zoo)
    edits = {}
    for name in names:
      named = zoo.chosen(found, name, options.zoo)
      named.check(opened.digest_factors, name)
      edits[name] = list(named.terms)
  return Request(
    opened,
    _added(edits) if options.add else edits,
    file_name('+'.join(names) + distinction(options, 'seeds', 'refined', *DISTINCT, 'add')),
  )


def _from_annotated(options: Any, names: Sequence[str]) -> tuple[FinishedFit, dict[str, list[Spec]]]:
  """The authors' directions with their own factors, not with those of a fit."""
  if options.workdir:
    raise InputError(
      'workdir',
      options.workdir,
      "annotated directions bring the authors' factors",
      'give --generator and --out instead',
    )
  if not options.generator:
    raise InputError('generator', None, 'not given', 'give --generator=DIR, the generator they were annotated on')
  found = annotations.read_annotated(options.zoo)
  chosen = {name: zoo.chosen(found, name, options.zoo) for name in names}
  factors = annotations.shared_factors(chosen, Path(options.zoo).parent)
  return FinishedFit(factors, options.generator), {name: list(entry.terms) for name, entry in chosen.items()}


def _from_flags(options: Any, opened: FinishedFit) -> tuple[dict[str, list[Spec]], str]:
  if options.alpha is None:
    raise InputError('alpha', None, 'not given', STRENGTHS)
  drawn, rows = given_mask(options, opened), None
  drawn = None if drawn is None else tuple(drawn.tolist())
  if drawn is None and options.part is None:
    raise InputError('part', None, 'not given', f'give one from 0 to {opened.factors.parts.shape[1] - 1}, or --mask')
  if options.appearance is None:
    most = opened.factors.appearances.shape[1] - 1
    raise InputError('appearance', None, 'not given', f'give one from 0 to {most}')
  if options.directions is not None:
    rows = read_npy(options.directions, 'directions', (2,))
  edits: dict[str, list[Spec]] = {}
  titles, given = [], _each(options)
  for part, index, alpha in given:
    spec = Spec(
      part,
      index if rows is None else None,
      alpha,
      options.convention,
      options.alpha_unit,
      combine=options.combine,
      threshold=parsed_fraction(options.threshold),
      feather=options.feather,
      mask=drawn,
      direction=None if rows is None else _row(rows, index, opened),
    )
    titles.append(_title(spec, index, options.directions is not None))
    name = titles[-1] + _strengths(alpha) * (len({alpha for _, _, alpha in given}) > 1)
    if name in edits:
      raise InputError('part', options.part, f'{name} is asked for twice', 'give every edit once')
    edits[name] = [spec]
  edits = _added(edits) if options.add else edits
  return edits, file_name(options.name or _default_name(titles, options))


def _each(options: Any) -> list[tuple[tuple[int, ...], int, float | tuple[float, ...]]]:
  """(parts, appearance, strengths) of every edit of --part, --appearance and --alpha; a single value serves all."""
  pieces = {name: options[name].value for name in ('part', 'appearance', 'alpha')}
  pieces = {name: None if text is None else text.split(BETWEEN) for name, text in pieces.items()}
  found = [
    [()] if options.part is None else [_indices(piece, 'part', options.part) for piece in pieces['part']],
    [_appearance(piece, options.appearance) for piece in pieces['appearance']],
    [_alpha(piece, options.alpha) for piece in pieces['alpha']],
  ]
  E = max(map(len, found))
  for name, values in zip(pieces, found, strict=True):
    if len(values) not in (1, E):
      problem = f'there are {len(values)} of them for {E} edits'
      raise InputError(name, options[name].value, problem, f'give one, or one for each: --{name}=A/B')
  return list(zip(*(values * (E // len(values)) for values in found), strict=True))


def _row(rows, index: int, opened: FinishedFit) -> tuple[float, ...]:
  channels = opened.factors.appearances.shape[0]
  if rows.shape[1] != channels:
    problem = f'they have {rows.shape[1]} entries, layer {opened.layer} has {channels} channels'
    raise InputError('directions', f'shape {rows.shape}', problem, 'give directions of this layer')
  return tuple(rows[masks.checked_index('appearance', index, len(rows), 'directions')].tolist())


def _added(edits: dict[str, list[Spec]]) -> dict[str, list[Spec]]:
  return {' + '.join(edits): [spec for specs in edits.values() for spec in specs]}


def _title(spec: Spec, index: int, directed: bool) -> str:
  where = f'part{"s" * (len(spec.part) > 1)} {" and ".join(map(str, spec.part))}' if spec.part else 'drawn mask'
  where += ' inside a drawn mask' if spec.part and spec.mask is not None else ''
  return f'{where}, {"direction" if directed else "appearance"} {index}'


def _strengths(alpha: float | tuple[float, ...]) -> str:
  return f', alpha {", ".join(f"{x:g}" for x in (alpha if isinstance(alpha, tuple) else (alpha,)))}'


def _default_name(titles: Sequence[str], options: Any) -> str:
  """A name for the edit: a short form of its flags."""
  words = '-'.join(titles)
  for old, new in (('parts ', 'part'), ('part ', 'part'), ('appearance ', 'appearance'), ('direction ', 'direction')):
    words = words.replace(old, new)
  words = words.replace(' and ', '+').replace(', ', '-').replace(' + ', '-').replace(' ', '-')
  words += f'-alpha{options.alpha.replace(",", "_")}'
  for name, plain in (('convention', 'unit'), ('alpha_unit', 'feature')):
    words += '' if options[name].value == plain else f'-{options[name].value}'
  return words + distinction(options, 'seeds', 'threshold', 'refined', *DISTINCT, 'directions', 'add')


def distinction(options: Any, *names: str) -> str:
  """The part of a folder's name for the given flags: '-seeds0-5-labels207'; '' if all have their defaults.

  For a file it has the name without the folder.
  """
  words = ''
  for name in names:
    value = options[name].value
    if value == options[name].default:
      continue
    text = '' if value is True else f'{value:g}' if isinstance(value, float) else str(value)
    text = Path(text).stem if text.endswith(FILES) or name == 'latents' else text
    words += f'-{name}{"-" * (text[:1].isalpha())}{text.replace(",", "_")}'
  return words


def file_name(words: str) -> str:
  """A folder's name: unsafe characters are replaced, and the end of a long name becomes a hash."""
  safe = ''.join(c if c.isalnum() or c in '.+-_' else '_' for c in words).strip('.')
  if len(safe) > LONGEST_NAME:
    digest = hashlib.sha256(words.encode(errors='surrogateescape')).hexdigest()[:8]
    safe = f'{safe[: LONGEST_NAME - len(digest) - 1]}-{digest}'
  return safe or 'edit'
