"""The methods that PandA is compared with, one file each: directions of a generator's latent spaces."""
