"""Known projects whose files we do not convert, recognised by keys that only their networks have.

So an error can say what the file is, and what its owner can do.
"""

import re
from typing import NamedTuple

import numpy as np

from panda_jax.converters.checkpoint import Module
from panda_jax.converters.networks import BEFORE

DEEPEST = 4
OWN = 'wrap the network as docs/how-to/own-generator.md shows, or fit feature maps of it'
SNAPSHOT = 'give the .pkl that its code writes'
PART = 'give the generator that it was made from'


class Project(NamedTuple):
  """A project.

  Attributes:
    name: in the error.
    pattern: regular expression of a whole key, without prefix, that only its networks have.
    remedy: what the owner of such a file can do.
    contains: whether a part of its networks looks like one of ours.
  """

  name: str
  pattern: str
  remedy: str = OWN
  contains: bool = False


PROJECTS = (
  Project('EG3D: planes that a renderer reads', r'backbone\.synthesis\.b\d+\..+', contains=True),
  Project('StyleGAN-T, which draws from text', r'mapping\.(clip|text_enc\w*)\..+', contains=True),
  Project('StyleGAN-V, which makes videos', r'synthesis\.motion_encoder\..+', contains=True),
  Project("lucidrains' stylegan2-pytorch", r'(GE?|S?E?)\.blocks\.\d+\.to_style\d\.weight'),
  Project("lucidrains' lightweight-gan", r'(GE?)\.(initial_conv|layers\.\d+)\..+'),
  Project('GFPGAN, which restores photographs', r'stylegan_decoder\..+', PART),
  Project('GPEN, which restores photographs', r'ecd\d+\.\d+\..+', PART),
  Project('CodeFormer, which restores photographs', r'quantize\.embedding\.weight'),
  Project('a network for larger photographs (ESRGAN)', r'(body\.\d+\.rdb1|RRDB_trunk)\..+'),
  Project('a StyleGAN of mmgeneration', r'style_mapping\.\d+\.weight'),
  Project('StyleGAN2 of BasicSR', r'style_convs\.\d+\.modulated_conv\..+', "convert rosinality's file of it"),
  Project("StyleGAN of rosinality's style-based-gan-pytorch", r'progression\.\d+\.conv1\..+'),
  Project('StyleSwin', r'layers\.\d+\.blocks\.\d+\.attn\.\d+\..+'),
  Project('a state dict of StyleGAN-XL, of which only the .pkl tells all', r'mapping\.embed_proj\..+', SNAPSHOT),
  Project("odegeasslbc's FastGAN-pytorch", r'feat_\d+\.\d+\.weight_orig'),
  Project('the discriminator of a BigGAN', r'blocks\.\d+\.\d+\.(conv2d1|conv1)\..+', 'give the generator'),
  Project('CIPS', r'(lff|emb)\.(ffm|input)\..+'),
  Project('a DCGAN', r'main\.0\.weight'),
  Project('Stable Diffusion', r'(model\.diffusion_model|cond_stage_model)\..+'),
  Project('a diffusion model', r'(down_blocks|input_blocks|downs)\.\d+\..+'),
  Project('an inverter of photographs (an encoder)', r'encoder\.(input_layer|body)\..+', PART),
  Project('a discriminator', r'(final_linear\.0\.weight|b4\.mbstd\..+|b\d+\.fromrgb\..+)', 'give the generator'),
)


def project_of(tree: object, contains: bool = False) -> Project | None:
  """The project whose keys are in a tree.

  Args:
    tree: of a checkpoint.
    contains: only those that contain one of our networks.
  """
  keys = list(_keys(tree, 0))
  for project in PROJECTS:
    pattern = re.compile(f'{BEFORE}(?:{project.pattern})')
    if (project.contains or not contains) and any(map(pattern.fullmatch, keys)):
      return project
  return None


def _keys(tree: object, depth: int):
  """The keys of the arrays in a tree, as in their own dicts."""
  if isinstance(tree, Module):
    yield from tree.state_dict
  elif isinstance(tree, dict) and depth <= DEEPEST:
    for key, value in tree.items():
      if isinstance(value, np.ndarray):
        yield str(key)
      elif isinstance(value, dict | Module):
        yield from _keys(value, depth + 1)
