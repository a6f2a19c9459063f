"""`python -m converters` in a clone runs `panda-jax convert`. The code is in panda_jax/converters/."""
