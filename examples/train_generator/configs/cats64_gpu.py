"""Cat faces, 64x64, for one or more GPUs: 4.5 million parameters, 9.0 MB as float16."""

import ml_collections

from examples.train_generator.configs import cats64_cpu


def get_config() -> ml_collections.ConfigDict:
  config = cats64_cpu.get_config()
  config.update(
    {
      'z_dim': 256,
      'w_dim': 256,
      'mapping_layers': 4,
      'widths': (256, 256, 256, 128, 64),
      'discriminator_widths': (256, 256, 256, 128, 64),
      'precision': 'bfloat16',
      'batch': 64,
      'images': 3_000_000,
      'r1_weight': 0.05,
      'path_weight': 2.0,
      'log_images': 12_800,
      'sample_images': 100_000,
      'snapshot_images': 200_000,
    }
  )
  return config
