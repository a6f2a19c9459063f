"""How often the classifier of cats64 knows held-out photographs, and how often it refuses other crops and pictures.

    python -m benchmarks.recognition --data=cats64.zip [--others=faces64.zip]      half a minute on two cores

`--data` is the training data of cats64; the held-out photographs are the trainer's. `--others` are pictures of 64x64
pixels of another kind. Crops out of place are those of 512 photographs: a third of the side, half a side away, turned
by right angles, and from twice as far. Prints shares that are refused; writes recognition-cats64.json.
"""

from pathlib import Path

import numpy as np
from absl import app, flags

from benchmarks.machine import machine, written
from examples.train_generator import data
from panda_jax.inversion.recognition import load_recognition, recognition_of, window

_DATA = flags.DEFINE_string(
  'data', None, 'Zip file or folder of the pictures that cats64 was trained on.', required=True
)
_OTHERS = flags.DEFINE_string('others', None, 'Zip file or folder of pictures of another kind.')
_OUT = flags.DEFINE_string('out', 'benchmarks/results', 'Folder of the JSON file.')

IN_PLACE, OUT_OF_PLACE, OTHERS = 768, 512, 256  # pictures
TILT = np.deg2rad(15)


def out_of_place(image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
  """Crops of a picture (H, W, C) from -1 to 1, by name."""
  side, angle = 1 / 3, rng.uniform(0, 2 * np.pi)
  return {
    'cut': window(image, side, rng.uniform(-0.5, 0.5, 2) * (1 - side)),
    'shifted': window(image, 1, 0.5 * np.array([np.cos(angle), np.sin(angle)])),
    'turned': np.rot90(image, rng.integers(1, 4)),
    'distant': window(image, 2, rng.uniform(-0.4, 0.4, 2)),
  }


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  known = load_recognition(recognition_of('cats64'))
  found = data.read_images(_DATA.value)
  _, held = data.split(data.photographs(found.pixels))
  rng = np.random.default_rng(0)
  chosen = found.pixels[rng.permutation(held)[:IN_PLACE]]
  signed = chosen.astype(np.float32) / 127.5 - 1
  given = {'in place': signed, 'tilted by 15 degrees': np.stack([window(x, 1, np.zeros(2), TILT) for x in signed])}
  moved = [out_of_place(x, rng) for x in signed[:OUT_OF_PLACE]]
  given |= {name: np.stack([one[name] for one in moved]) for name in moved[0]}
  if _OTHERS.value:
    pixels = data.read_images(_OTHERS.value).pixels
    given['another kind'] = rng.permutation(pixels)[:OTHERS].astype(np.float32) / 127.5 - 1
  refused = {name: round(float(np.mean(~known.knows(images))), 4) for name, images in given.items()}
  refused['out of place, mean'] = round(float(np.mean([refused[name] for name in moved[0]])), 4)
  for name, share in refused.items():
    print(f'{name:22} refused {100 * share:.1f} %')
  record = machine() | {'pictures': {name: len(images) for name, images in given.items()}, 'refused': refused}
  print(f'wrote {written(record, Path(_OUT.value) / "recognition-cats64.json")}')


if __name__ == '__main__':
  app.run(main)
