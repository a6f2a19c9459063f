"""Small pictures, smooth and all different, as files."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def made(count: int, side: int, seed: int = 0) -> np.ndarray:
  """(count, side, side, 3) uint8: a few random waves each."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:side, :side] / side
  images = np.full((count, side, side, 3), 127.5)
  for _ in range(4):
    a, b, phase, height = rng.normal(size=(4, count, 1, 1, 3))
    images += 40 * height * np.sin(6 * (a * y[None, :, :, None] + b * x[None, :, :, None]) + phase)
  return np.clip(images, 0, 255).astype(np.uint8)


def png(image: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, format='PNG')
  return buffer.getvalue()


def folder(path: Path, images) -> Path:
  path.mkdir(parents=True)
  for i, image in enumerate(images):
    (path / f'{i:04d}.png').write_bytes(png(image))
  return path


def zipped(path: Path, images) -> Path:
  with zipfile.ZipFile(path, 'w') as archive:
    for i, image in enumerate(images):
      archive.writestr(f'inside/{i:04d}.png', png(image))
  return path
