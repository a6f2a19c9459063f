"""From checkpoints to Flax generators, without PyTorch or TensorFlow and without trusting the file.

conversion.py is the front door, behind `panda-jax convert`: checkpoint.py reads a file, a module of dialects/ makes a
`Conversion` of it, assembly.py builds the generator and report.py says what was done. limits.py bounds the reading.
archives.py, torchfiles.py, pickles.py and globals.py know the containers and what may be in them; trees.py makes
arrays. tables.py has what tables of keys are made of. Nothing in a file is ever executed.
"""
