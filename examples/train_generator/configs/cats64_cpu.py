"""Cat faces, 64x64, for two CPU cores."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    {
      'resolution': 64,
      'z_dim': 128,
      'w_dim': 128,
      'mapping_layers': 2,
      'widths': (96, 96, 96, 48, 24),
      'discriminator_widths': (96, 96, 96, 48, 24),
      'precision': 'float32',
      'batch': 16,
      'images': 200_000,
      'learning_rate': 0.0025,
      'adam': (0.0, 0.99),
      'r1_weight': 0.1,
      'r1_every': 16,
      'path_weight': 0.0,
      'path_every': 4,
      'average_images': 5000,
      'average_ramp': 0.05,
      'flip': True,
      'augment': 0.0,
      'augment_target': ml_collections.config_dict.placeholder(float),
      'seed': 0,
      'log_images': 800,
      'sample_images': 10_000,
      'snapshot_images': 20_000,
      'checkpoint_seconds': 300.0,
    }
  )
