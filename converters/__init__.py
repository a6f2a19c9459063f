"""A door: `python -m converters` in a clone is `panda-jax convert`. The code is in panda_jax/converters/."""
