"""What pyproject.toml cannot say: the configurations of configs/ are in the wheel as panda_jax/configs."""

from setuptools import find_packages, setup

setup(
  packages=[*find_packages(include=['panda_jax', 'panda_jax.*']), 'panda_jax.configs'],
  package_dir={'panda_jax.configs': 'configs'},
)
