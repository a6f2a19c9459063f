"""From checkpoints to Flax generators, without PyTorch or TensorFlow and without trusting the file.

conversion.py has the main function, for `panda-jax convert`: checkpoint.py reads a file, networks.py finds the networks
in it, a module of dialects/ makes a `Conversion`, means.py adds a mean of w, assembly.py builds the generator and
report.py lists what was done. listing.py lists what can be converted, projects.py names what cannot. limits.py limits
memory and time. archives.py, torchfiles.py, pickles.py, globals.py and safetensors.py read the containers; trees.py
makes arrays. tables.py has the tools for tables of keys. Nothing in a file is ever executed.

export.py is the reverse, for `panda-jax export`: a module of dialects/ reads its tables backwards, foreign.py checks
what other code supports, and torchwriter.py writes torch files.
"""
