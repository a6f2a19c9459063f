"""The networks of original PyTorch code, run from a clone that the user has: the other side of `benchmarks.generators`.

    PYTHON benchmarks/reference.py FOLDER [REQUEST]

Runs in a Python that has PyTorch and may lack JAX, so it imports PyTorch, the clone and what comes with Python, and is
no more than imported where JAX runs. REQUEST is what `request` makes; prints the seconds as JSON. Without a REQUEST it
prints versions, and why PyTorch or a file of the clone cannot be imported.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple  # noqa: UP035  of Pythons older than ours too

CLONES = 'NVlabs/stylegan3, genforce/genforce or ajbrock/BigGAN-PyTorch'


class Network(NamedTuple):
  """A generator of a clone.

  Attributes:
    file: in the clone.
    name: of its class.
    arguments: of its constructor, from our options.
    images: from it and z.
  """

  file: str
  name: str
  arguments: Callable[[Any], dict]
  images: Callable[[Any, Any], Any]


def _base(options) -> dict:
  """The published rules of widths are min(base / frequency or size, most): the ends of the list give both."""
  return {'base': options.widths[-1] * options.resolution, 'max': options.widths[0]}


def _nvlabs(options, mapping_layers: int, clamp: float | None, **more) -> dict:
  return {
    'z_dim': options.z_dim,
    'c_dim': 0,
    'w_dim': options.w_dim,
    'img_resolution': options.resolution,
    'img_channels': options.image_channels,
    'mapping_kwargs': {'num_layers': mapping_layers},
    'conv_clamp': clamp,
    'num_fp16_res': 0,
    **{f'channel_{name}': value for name, value in _base(options).items()},
    **more,
  }


def _stylegan2(options) -> dict:
  return _nvlabs(options, len(options.mapping_widths), options.clamp)


def _stylegan3(options) -> dict:
  same = ('conv_kernel', 'use_radial_filters', 'num_critical', 'margin_size')
  more = {name: getattr(options, name) for name in same}
  return _nvlabs(options, options.mapping_layers, options.conv_clamp, num_layers=len(options.widths), **more)


def _progan(options) -> dict:
  widths = {f'fmaps_{name}': value for name, value in _base(options).items()}
  return {'resolution': options.resolution, 'z_space_dim': options.z_dim, **widths}


def _stylegan(options) -> dict:
  mapping = {'mapping_layers': len(options.mapping_widths), 'mapping_fmaps': options.mapping_widths[0]}
  return {**_progan(options), 'w_space_dim': options.w_dim, **mapping}


def _biggan(options) -> dict:
  return {
    'G_ch': options.channel_width,
    'dim_z': options.z_dim,
    'resolution': 4 * 2 ** len(options.blocks),
    'n_classes': options.num_classes,
    'shared_dim': options.embedding_dim,
    'hier': True,
    'BN_eps': options.eps,
    'no_optim': True,
    'skip_init': True,  # random all the same; orthogonal matrices take long
  }


_STYLEGAN3 = Network(
  'training/networks_stylegan3.py', 'Generator', _stylegan3, lambda G, z: G(z, None, noise_mode='const')
)
NETWORKS = {  # by the names of CASES in generators.py
  'progan': Network('models/pggan_generator.py', 'PGGANGenerator', _progan, lambda G, z: G(z)['image']),
  'stylegan': Network('models/stylegan_generator.py', 'StyleGANGenerator', _stylegan, lambda G, z: G(z)['image']),
  'stylegan2': _STYLEGAN3._replace(file='training/networks_stylegan2.py', arguments=_stylegan2),
  'stylegan3-t': _STYLEGAN3,
  'stylegan3-r': _STYLEGAN3,
  'biggan-plain': Network('BigGAN.py', 'Generator', _biggan, lambda G, z: G(z, G.shared(z.new_zeros(len(z)).long()))),
}


def cases(folder: Path) -> list[str]:
  """The cases that a clone has."""
  return [case for case, network in NETWORKS.items() if (folder / network.file).is_file()]


def request(case: str, options, batch: int, seconds: float, threads: int, device: str) -> str:
  """What the other process is to run.

  Args:
    case: one of NETWORKS.
    options: of our network of this case.
    batch: images at a time.
    seconds: repeats take about so long, and are at least two.
    threads: of PyTorch on a CPU.
    device: of PyTorch.
  """
  asked = {'case': case, 'arguments': NETWORKS[case].arguments(options), 'z': [batch, options.z_dim]}
  return json.dumps({**asked, 'seconds': seconds, 'threads': threads, 'device': device})


def _module(case: str):
  return importlib.import_module(NETWORKS[case].file[: -len('.py')].replace('/', '.'))


def _line(error: Exception) -> str:
  return ' '.join(f'{type(error).__name__}: {error}'.split())


def found(folder: Path) -> dict:
  """Versions; under `error` why PyTorch cannot be imported, under `errors` the same of the files of a clone."""
  row: dict = {'python': platform.python_version(), 'errors': {}}
  try:
    import torch
  except Exception as error:
    return {**row, 'error': _line(error)}
  row['torch'] = torch.__version__
  for case in cases(folder):
    try:
      _module(case)
    except Exception as error:
      row['errors'][NETWORKS[case].file] = _line(error)
  return row


def run(asked: dict) -> dict:
  """Seconds of the best call of a network with random weights, and what shows whether it is the same as ours."""
  import torch

  torch.set_num_threads(asked['threads'])
  torch.manual_seed(0)
  torch.backends.cudnn.benchmark = True
  torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # as ours: float32 is float32
  network, device = NETWORKS[asked['case']], asked['device']
  with torch.no_grad():
    G = getattr(_module(asked['case']), network.name)(**asked['arguments']).eval().to(device)
    z = torch.randn(*asked['z'], device=device)
    ran: set = set()  # some clones also have layers of smaller images, which do not run
    hooks = [module.register_forward_hook(lambda module, *_: ran.add(module)) for module in G.modules()]
    times: list[float] = []
    while len(times) < 2 or (sum(times) < asked['seconds'] and len(times) < 50):
      began = time.perf_counter()
      images = network.images(G, z)
      if device != 'cpu':
        torch.cuda.synchronize()
      times.append(time.perf_counter() - began)
      for hook in hooks:
        hook.remove()
  weights = sum(x.numel() for module in ran for x in module.parameters(recurse=False))
  return {'seconds': min(times), 'shape': list(images.shape), 'weights': weights}


if __name__ == '__main__':
  clone = Path(sys.argv[1])
  own = str(Path(__file__).resolve().parent)
  sys.dont_write_bytecode = True  # the clone stays as it is
  sys.path[:] = [str(clone), *(path for path in sys.path if path != own)]
  print(json.dumps(run(json.loads(sys.argv[2])) if len(sys.argv) > 2 else found(clone)))
