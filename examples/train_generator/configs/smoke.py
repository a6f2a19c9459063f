"""A training of some seconds, to check that everything works: 16x16 images, few channels."""

import ml_collections

from examples.train_generator.configs import cats64_cpu


def get_config() -> ml_collections.ConfigDict:
  config = cats64_cpu.get_config()
  config.update(
    {
      'resolution': 16,
      'z_dim': 8,
      'w_dim': 8,
      'widths': (8, 8, 4),
      'discriminator_widths': (8, 8, 4),
      'batch': 8,
      'images': 64,
      'r1_every': 2,
      'path_weight': 2.0,
      'path_every': 4,
      'log_images': 16,
      'sample_images': 32,
      'snapshot_images': 32,
    }
  )
  return config
