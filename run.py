"""Commands of panda-jax: `python run.py COMMAND --flag=value ...`. Flags and configs here, the work in the library."""

import sys
import time

STARTED = time.perf_counter()

if __name__ == '__main__' and {'--distributed', '--distributed=true'} & {*sys.argv}:
  from panda_jax.distributed.supervision import supervise

  supervise()

from panda_jax.runtime import signals  # noqa: E402

if __name__ == '__main__':
  signals.listen()

import contextlib  # noqa: E402
import os  # noqa: E402
import shlex  # noqa: E402
import signal  # noqa: E402
import threading  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

from absl import flags, logging  # noqa: E402

import panda_jax  # noqa: E402
from panda_jax.commands import parser  # noqa: E402
from panda_jax.errors import InputError, Interrupted, Lost, brief, nearest, refusal  # noqa: E402
from panda_jax.files.links import check_no_link  # noqa: E402
from panda_jax.generators.labels import parsed_labels  # noqa: E402
from panda_jax.results.fit import fit_into  # noqa: E402
from panda_jax.runtime.clock import Clock  # noqa: E402
from panda_jax.runtime.progress import Progress  # noqa: E402
from panda_jax.workdir.config import FLAGS, check_values, default_config  # noqa: E402

DEFAULT = Path(__file__).parent / 'configs' / 'default.py'
HELP = {'--help', '-help', '-h', 'help'}
VERSION = {'--version', '-version', 'version'}
JOINING = 'coordinator', 'process_id', 'processes'  # flags of --distributed
UNFITTED = 'fit', 'info', 'sample', 'discover', 'compare'  # commands that need no finished fit
TAKEN, TRUNCATED = ('seeds', 'latents', 'space', 'labels'), ('truncation', 'truncation_layers')  # flags of samples
DRAWN = {  # those of them that a command has; edits are of samples with the truncation of the fit
  **dict.fromkeys(('edit', 'remove', 'refine', 'saliency'), TAKEN),
  'sample': TAKEN + TRUNCATED,
  'discover': ('seeds', 'labels', *TRUNCATED),
  'fit': ('labels', *TRUNCATED),
  'compare': TRUNCATED,
}
EDITING: set[str] = set()  # flags of the others
DISCOVERING: set[str] = set()  # flags of discover, which has alpha too


def fit() -> None:
  """python run.py fit --features=FILE.npy --parts=8 --workdir=DIR, or with --generator=DIR --layer=5 --samples=1000"""
  options = flags.FLAGS
  if not options.workdir:
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR')
  config = options.config
  for name in FLAGS:
    if options[name].present:
      config[name] = options[name].value
  clock = Clock(STARTED)
  with in_processes():
    fit_into(
      Path(options.workdir),
      config,
      overwrite=options.overwrite,
      published=options.published,
      verbose=options.verbose,
      clock=clock,
    )


def in_processes() -> contextlib.AbstractContextManager:
  """Joins the other processes of this fit, if there are to be some."""
  options = flags.FLAGS
  if options.distributed:
    from panda_jax.distributed.processes import joined

    return joined(options.coordinator, options.process_id, options.processes)
  for name in JOINING:
    if options[name].present:
      raise InputError(name, options[name].value, 'without --distributed this is one process', 'give --distributed too')
  return contextlib.nullcontext()


def given_generator():
  from panda_jax.generators import load_generator

  if not flags.FLAGS.generator:
    raise InputError('generator', None, 'not given', 'give --generator=DIR, a folder that `python -m converters` wrote')
  return load_generator(flags.FLAGS.generator)


def info() -> None:
  """python run.py info --generator=DIR"""
  from panda_jax.commands.info import described

  print(described(given_generator()))


def sample() -> None:
  """python run.py sample --generator=DIR --seeds=0,1,2 --out=DIR"""
  from panda_jax.commands import requests
  from panda_jax.files.arrays import read_npy
  from panda_jax.results.sample import sample_into

  options = flags.FLAGS
  if not options.out:
    raise InputError('out', None, 'not given', 'give --out=DIR')
  if (options.latents is None) == (options.seeds is None):
    problem = 'not given' if options.seeds is None else 'given together with --latents'
    raise InputError('seeds', options.seeds, problem, 'give either --seeds=0,1,2 or --latents=FILE.npy')
  generator = given_generator()
  latents = requests.given_latents(options, generator) or requests.drawn(options, generator)
  transform = options.transform and read_npy(options.transform, 'transform', (2,))
  features = options.features and read_npy(options.features, 'features', (4,), kinds='fiubV')
  with Progress(len(latents.array)) as progress:
    shapes = sample_into(
      options.out,
      generator,
      latents.array,
      parsed_labels(options.labels),
      space=latents.space,
      truncation=1.0 if options.truncation is None else options.truncation,
      truncation_layers=options.truncation_layers,
      noise=options.noise,
      noise_seed=options.seed or 0,
      transform=transform,
      layer=options.layer,
      features=features,
      drop_rgb=options.drop_rgb,
      overwrite=options.overwrite,
      on_samples=progress.samples_done,
    )
  for name, shape in {**shapes, 'images.png': ()}.items():
    print(f'{Path(options.out) / name}  {" x ".join(map(str, shape))}'.rstrip())


def command() -> str:
  """What the user typed, for records."""
  return shlex.join(['python', 'run.py', *sys.argv[1:]])


def how_edited(progress):
  from panda_jax.results.edits import Options

  options = flags.FLAGS
  return Options(
    noise=options.noise,
    drop_rgb=options.drop_rgb,
    overwrite=options.overwrite,
    command=command(),
    on_samples=progress.samples_done,
    on_note=partial(noted, progress),
  )


def noted(progress, text: str) -> None:
  """Says what was asked for and comes to nothing."""
  progress.say(f'note: {text}')


def inside(workdir: str, name: str | Path) -> Path:
  """A folder below a workdir, to be written into."""

  check_no_link(workdir, name)
  return Path(workdir) / name


def edits_folder(name: str) -> Path:
  options = flags.FLAGS
  if options.out or options.workdir:
    return Path(options.out) if options.out else inside(options.workdir, Path('edits') / name)
  raise InputError('out', None, 'not given', 'give --out=DIR')


def print_written(folder: Path, shapes: dict, *more: str) -> None:
  for name, shape in {**shapes, **dict.fromkeys(more, ())}.items():
    print(f'{folder / name}  {" x ".join(map(str, shape))}'.rstrip())


def drawn(out: Path) -> list[str]:
  """The pictures of edits that are in a folder: how many there are depends on the edits."""
  from panda_jax.pictures.edits import PICTURES

  return [name for name in PICTURES if (out / name).exists()]


def edit() -> None:
  """python run.py edit --workdir=DIR --part=3 --appearance=12 --alpha=3, or with --zoo=FILE --name=NAME"""
  from panda_jax.commands import requests
  from panda_jax.results.edits import edit_into

  options = flags.FLAGS
  request = requests.requested(options)
  samples = requests.given_samples(options, request.opened)
  out = edits_folder(request.name)
  with Progress(len(samples.names())) as progress:
    shapes = edit_into(out, request.opened, request.edits, samples, how_edited(progress), refined=options.refined)
  if options.annotate:
    request.annotate(options.zoo, options.annotate, options.overwrite)
  print_written(out, shapes, *drawn(out), 'edit.json')


def remove() -> None:
  """python run.py remove --workdir=DIR --part=3"""
  from panda_jax.commands import requests
  from panda_jax.results.edits import STATISTICS, remove_into

  options = flags.FLAGS
  opened = requests.given_fit(options)
  samples = requests.given_samples(options, opened)
  part = requests.parsed_part(options.part)
  appearance = None if options.appearance is None else requests.parsed_index(options.appearance, 'appearance')
  mask = {'combine': options.combine, 'feather': options.feather}
  mask['threshold'] = requests.parsed_fraction(options.threshold)
  name = options.name or 'remove-part' + '+'.join(map(str, part))
  out = edits_folder(name)
  with Progress(len(samples.names())) as progress:
    shapes, told = remove_into(
      out,
      opened,
      part,
      samples,
      how_edited(progress),
      appearance=appearance,
      strength=options.strength,
      separate=options.separate,
      mask=mask | {'drawn': requests.given_mask(options, opened)},
      statistics=STATISTICS if options.samples is None else options.samples,
    )
  print_written(out, shapes, *drawn(out), 'edit.json')
  print(
    f'background is appearance {told["appearance"]} ({told["rule"]}); alpha {told["alpha"]:.4g}; background covers '
    f'{told["covered_after"]:.1%} of the part, before {told["covered_before"]:.1%}'
  )


def explained_folder(command: str, numbers) -> Path:
  from panda_jax.results.explanations import folder_name

  options = flags.FLAGS
  return Path(options.out) if options.out else inside(options.workdir, options.name or folder_name(command, numbers))


def how_explained(progress):
  from panda_jax.results.explanations import Options

  return Options(flags.FLAGS.overwrite, command(), progress.samples_done, partial(noted, progress))


def refine() -> None:
  """python run.py refine --workdir=DIR --seeds=19"""
  from panda_jax.commands import requests
  from panda_jax.results.explanations import first_seeds, refine_into

  options = flags.FLAGS
  opened = requests.given_fit(options)
  samples, features = requests.given_to_explain(options, opened, first_seeds(opened))
  out = explained_folder('refine', samples.seeds if samples else None)
  with Progress() as progress:
    shapes, told = refine_into(
      out, opened, samples, how_explained(progress), features=features, proximal=options.proximal
    )
  print_written(out, shapes, 'refined.png', 'refine.json')
  errors = told['relative_error']
  print(f'relative error {errors["global"]:.5f} with the parts of the fit, {errors["refined"]:.5f} refined')


def saliency() -> None:
  """python run.py saliency --workdir=DIR --appearance=0"""
  from panda_jax.commands import requests
  from panda_jax.files.arrays import read_npy
  from panda_jax.results.explanations import STATISTICS, first_seeds, saliency_into

  options = flags.FLAGS
  opened = requests.given_fit(options)
  samples, features = requests.given_to_explain(options, opened, first_seeds(opened))
  chosen = requests.parsed_indices(options.appearance, 'appearance')
  out = explained_folder('saliency', chosen)
  with Progress() as progress:
    shapes, _ = saliency_into(
      out,
      opened,
      chosen,
      samples,
      how_explained(progress),
      features=features,
      threshold=requests.parsed_method(options.threshold),
      statistics=STATISTICS if options.samples is None else options.samples,
      given_masks=None if options.masks is None else read_npy(options.masks, 'masks', (3,)),
    )
  print_written(out, shapes, 'saliency.png', 'masks.png', 'statistics.json')


def report() -> None:
  """python run.py report --workdir=DIR"""
  from panda_jax.results.report import write_report

  if not flags.FLAGS.workdir:
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR, the folder of a fit')
  print(write_report(flags.FLAGS.workdir))


def catalog() -> None:
  """python run.py catalog --workdir=DIR"""
  from panda_jax.catalog import catalog_into
  from panda_jax.commands import requests

  options = flags.FLAGS
  opened = requests.given_fit(options)
  out = Path(options.out) if options.out else inside(options.workdir, 'catalog')
  with Progress() as progress:
    written = catalog_into(out, opened, overwrite=options.overwrite, command=command(), on_progress=progress.now)
  print_written(out, {}, *written.files)
  record = written.record
  print(f'{record["kept_edits"]} edits from {record["pairs"]} pairs in {record["seconds"]:.0f} s')


def discover() -> None:
  """python run.py discover --method=resefa --generator=DIR --region=r0,r1,c0,c1 --out=DIR"""
  from panda_jax.commands.discovery import CALLED, requested
  from panda_jax.results import directions

  options = flags.FLAGS
  if not options.method:
    raise InputError('method', None, 'not given', 'give --method=sefa|ganspace|stylespace|lowrankgan|resefa')
  if not options.out:
    raise InputError('out', None, 'not given', 'give --out=DIR')
  arguments, strip = requested(options)
  try:
    with Progress() as progress:
      found, shapes = directions.discover_into(
        options.out,
        given_generator(),
        options.method,
        arguments,
        strip,
        overwrite=options.overwrite,
        command=command(),
        on_progress=directions.told(progress.now),
      )
  except InputError as error:
    argument = CALLED.get(error.argument, error.argument)
    raise type(error)(argument, error.value, error.problem, error.remedy) from error
  print_written(Path(options.out), shapes, 'directions.json', 'strip.png')
  print(f'{len(found)} directions in {found.provenance["discovery"]["seconds"]:.1f} s')


def compare() -> None:
  """python run.py compare --config=configs/compare_cats64.py --workdir=DIR"""
  from panda_jax.compare import compare_into

  options = flags.FLAGS
  if not options.workdir:
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR')
  config = options.config
  for name in FLAGS:
    if options[name].present:
      if name not in config:
        raise InputError(f'--{name}', options[name].value, 'compare has no such flag', 'leave it out')
      config[name] = options[name].value
  compare_into(options.workdir, config, overwrite=options.overwrite, command=command())
  print_written(Path(options.workdir), {}, 'table.md', 'table.json', 'curves.png', 'strips.png')


COMMANDS = {
  'fit': fit,
  'info': info,
  'sample': sample,
  'edit': edit,
  'remove': remove,
  'refine': refine,
  'saliency': saliency,
  'report': report,
  'catalog': catalog,
  'discover': discover,
  'compare': compare,
}


def defaults_of(name: str):
  """The configuration of a command before anything is changed in it."""
  if name == 'compare':
    from panda_jax.compare import default_config as comparison

    return comparison()
  return default_config()


def known_keys(name: str) -> set[str]:
  """The keys of a command's configuration."""
  return set(defaults_of(name).keys())


def foreign_flags(name: str) -> set[str]:
  """Flags that only other commands have."""
  joining = set() if name == 'fit' else {'distributed', 'verbose', *JOINING}
  drawing = {*TAKEN, *TRUNCATED} - {*DRAWN.get(name, ())}
  if name == 'discover':
    return EDITING - {'alpha'} | joining | drawing
  return (EDITING if name in UNFITTED else set()) | DISCOVERING | joining | drawing


def define_edit_flags() -> None:
  """Those of the commands that work on a finished fit."""
  before = set(flags.FLAGS)
  flags.DEFINE_string('part', None, 'Parts that are edited: 3, or 3,4 joined; 3/4,5 for two edits.')
  flags.DEFINE_string('appearance', None, 'Appearances: 12, or 12/5 for two edits; in saliency 0,3.')
  flags.DEFINE_string('alpha', None, 'Strength of an edit, or a sweep: -3,0,3; 3/-2 for two edits.')
  flags.DEFINE_enum('convention', 'unit', ['unit', 'paper', 'published'], 'What a strength multiplies, see README.md.')
  flags.DEFINE_enum('alpha_unit', 'feature', ['feature', 'rms'], 'Unit of --alpha.')
  flags.DEFINE_enum('combine', None, ['union', 'sum'], 'How several parts of an edit are joined.')
  flags.DEFINE_string(
    'mask', None, "A drawn PNG of the feature map's or the image's size: in place of or inside a part."
  )
  flags.DEFINE_float('feather', None, 'Softens the edge of a mask, cells of the feature map.')
  flags.DEFINE_bool('add', False, 'All edits at once, added up, instead of each on its own.')
  flags.DEFINE_bool('refined', False, 'Edit with parts refined for each sample.')
  flags.DEFINE_string('directions', None, 'Directions in place of appearances, a .npy file (k, C).')
  flags.DEFINE_string('zoo', None, "Named edits: a JSON file, or the authors' annotated directions (.py).")
  flags.DEFINE_string('name', None, 'Edits of the zoo, a,b; otherwise the name of the folder.')
  flags.DEFINE_string('annotate', None, 'Also write the edit into --zoo under this name.')
  flags.DEFINE_float('strength', 1.0, 'Of a removal: multiplies what was found.')
  flags.DEFINE_enum('separate', 'otsu', ['otsu', 'mean'], 'Of a removal: what tells background from the rest.')
  flags.DEFINE_string('threshold', None, 'Of a mask: a fraction of its maximum; in saliency mean, otsu or a number.')
  flags.DEFINE_float('proximal', 0.0, 'Of a refinement: pull to the parts of the fit.')
  flags.DEFINE_string('masks', None, 'Of saliency: masks to compare with, a .npy file (N, h, w).')
  EDITING.update(set(flags.FLAGS) - before)


def define_discover_flags() -> None:
  """Those of discover alone."""
  before = set(flags.FLAGS)
  flags.DEFINE_string('method', None, 'sefa, ganspace, stylespace, lowrankgan or resefa.')
  flags.DEFINE_string('region', None, 'Box r0,r1,c0,c1 in pixels: rows r0 to r1 - 1, columns c0 to c1 - 1.')
  flags.DEFINE_string('rows', None, "Rows of w+ that directions move: 4-7; the method's own if left out.")
  flags.DEFINE_integer('count', None, 'How many directions, at most.')
  flags.DEFINE_string('references', None, 'Seeds of the images that lowrankgan and resefa differentiate: 4-8.')
  DISCOVERING.update(set(flags.FLAGS) - before)


def define_flags(name: str, words: list[str]) -> list[str]:
  """Defines every flag; not at import, since which keys of a configuration are flags depends on what was typed.

  Returns:
    `words` without --config.
  """
  if name == 'compare':
    rest = parser.define_config(flags.FLAGS, words, None, 'configs/compare_cats64.py')
  else:
    rest = parser.define_config(flags.FLAGS, words, DEFAULT)
  flags.DEFINE_string('workdir', None, 'Folder for results and checkpoints.')
  flags.DEFINE_bool('overwrite', False, 'Drop what an earlier run left in the folder.')
  if name == 'discover':
    flags.DEFINE_bool('published', False, 'As the published code does it, also where it is wrong.')
  else:
    flags.DEFINE_string('published', None, "Also write the authors' Uc-name_*.npy, Us-name_*.npy, by this name.")
  flags.DEFINE_string('out', None, 'Folder of sample and of discover.')
  flags.DEFINE_string('latents', None, 'Samples, in place of seeds: a .npy file of z, w or w+, or a projected_w.npz.')
  flags.DEFINE_enum('space', None, ['z', 'w', 'wplus'], 'What --latents holds, where neither file nor shape says it.')
  flags.DEFINE_string('seeds', None, 'Seeds of samples: 0,1,2 or 0-99.')
  flags.DEFINE_enum('noise', 'const', ['const', 'none', 'random'], 'Noise of the layers; random is drawn by --seed.')
  flags.DEFINE_string('transform', None, "StyleGAN3's user transform, a .npy file (3, 3).")
  flags.DEFINE_bool('drop_rgb', False, 'Forget the RGB made before --layer, as published PandA does.')
  define_edit_flags()
  flags.DEFINE_bool('verbose', False, 'Say all that was weighed when it was chosen where features live.')
  flags.DEFINE_bool('distributed', False, 'One of several processes that fit together, see docs/scaling.md.')
  flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0; detected in Slurm, Open MPI, Kubernetes, on TPUs.')
  flags.DEFINE_integer('process_id', None, 'Number of this process, from 0; detected likewise.')
  flags.DEFINE_integer('processes', None, 'How many processes; detected likewise.')
  define_discover_flags()
  # These set the configuration's key of the same name.
  flags.DEFINE_string('generator', None, 'Folder of a generator that `python -m converters` wrote.')
  flags.DEFINE_float('truncation', None, 'Truncation of the latents; 1 for none.')
  flags.DEFINE_integer('truncation_layers', None, 'How many of the first w+ rows are truncated.')
  flags.DEFINE_string('labels', None, 'Classes: 207,208 or a .npy file of indices (N,) or rows (N, classes).')
  flags.DEFINE_string(
    'features',
    None,
    'Feature maps, a .npy file (N, H, W, C), or (N, S, C) with --grid; in sample, to resume from at --layer.',
  )
  flags.DEFINE_string('grid', None, 'H,W of flattened positions.')
  flags.DEFINE_integer(
    'layer', None, 'Layer at which the generator is split; with --features in a fit, kept in the provenance.'
  )
  flags.DEFINE_integer('samples', None, 'How many samples to generate; of a file, use only the first so many.')
  flags.DEFINE_integer('parts', None, 'R_S, how many parts.')
  flags.DEFINE_integer('appearances', None, 'R_C, how many appearances; all channels if left out.')
  flags.DEFINE_integer('seed', None, 'Seed of the restarts and of the first sample.')
  return rest


def own_flags(name: str) -> set[str]:
  """Flags of a command, once they are defined."""
  return parser.own_flags(flags.FLAGS) - foreign_flags(name) - (set(FLAGS) - known_keys(name))


def helped(name: str | None) -> str:
  """What --help says: how each command is called, or the flags of one."""
  if name not in COMMANDS:
    return '\n'.join(
      [*(command.__doc__ for command in COMMANDS.values()), '', 'python run.py COMMAND --help: its flags']
    )
  define_flags(name, [f'--config={DEFAULT}'])
  lines = [COMMANDS[name].__doc__, '', *parser.listed(flags.FLAGS, own_flags(name))]
  return '\n'.join([*lines, f'  {"--config.KEY":<21} {", ".join(sorted(known_keys(name)))}'])


def parse(argv: list[str]) -> str:
  """Reads flags and returns the command."""
  if len(argv) < 2 or argv[1].startswith('-'):
    raise InputError('command', argv[1] if len(argv) > 1 else None, 'not given', f'give one of {", ".join(COMMANDS)}')
  name, words, see = argv[1], argv[2:], f'python run.py {argv[1]} --help lists the flags'
  if name not in COMMANDS:
    raise InputError('command', name, 'unknown', nearest(name, COMMANDS))
  words = define_flags(name, words)
  own = own_flags(name)
  parser.parse(flags.FLAGS, words, see, own)
  for flag in sorted(foreign_flags(name)):
    if flags.FLAGS[flag].present:
      remedy = parser.nearest_flag(flag, own, see)
      raise InputError(f'--{flag}', flags.FLAGS[flag].value, f'{name} has no such flag', remedy)
  config = flags.FLAGS.config
  if name in ('fit', 'compare'):
    strange = sorted(set(config.keys()) - known_keys(name))
    if strange:
      raise InputError(
        f'config.{strange[0]}', config[strange[0]], f'no key of {name}', f'give a configuration of {name}'
      )
    check_values(config.to_dict(), defaults_of(name))  # a file may give what it likes
  return name


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.ERROR)
  if not HELP.isdisjoint(argv[1:]):
    print(helped(argv[1]))
    return 0
  if not VERSION.isdisjoint(argv[1:]):
    print(f'panda-jax {panda_jax.__version__}')
    return 0
  try:
    with signals.keeping(lambda: 'nothing was written'), signals.raising():
      COMMANDS[parse(argv)]()
      sys.stdout.flush()
  except BrokenPipeError:  # whoever reads has seen enough, and the work is done
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  except OSError as error:
    print(f'error: {refusal("file", error.filename, "the system refuses it", error)}', file=sys.stderr)
    return 2
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except Interrupted as stopped:
    print(signals.sentence(stopped.number, stopped.kept), file=sys.stderr)
    return signals.exit_code(stopped.number)
  except MemoryError as error:
    print(f'error: there is not enough memory ({brief(error, 120)}); give fewer or smaller samples', file=sys.stderr)
    return 2
  except Lost as error:
    again = f'start all again: {error.kept}' if error.kept else 'start all again'
    print(
      f'error: the computation across processes broke off ({brief(error, 120)}); see what the process said that ended '
      f'first, then {again}',
      file=sys.stderr,
    )
    return 1
  return 0


def explained(argv: list[str]) -> int:
  """`main`, and then what its threads died of, unless one sentence said what went wrong.

  After a failed write those of Orbax go on to fail, of nothing that the sentence does not tell.
  """
  died = []
  threading.excepthook = lambda args: died.append(lambda: threading.__excepthook__(args))
  sys.unraisablehook = lambda args: died.append(lambda: sys.__unraisablehook__(args))
  said = False
  try:
    code = main(argv)
    said = code not in (0, signals.exit_code(signal.SIGINT))
  finally:
    if not said:
      for show in died:
        show()
  return code


if __name__ == '__main__':
  code = explained(sys.argv)
  signals.ignore()
  if code:
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the message above is the last word, of other threads too
    os._exit(code)
