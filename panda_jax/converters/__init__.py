"""From checkpoints to Flax generators, without PyTorch or TensorFlow and without trusting the file.

conversion.py is the front door, behind `panda-jax convert`: checkpoint.py reads a file, networks.py finds the
networks in it, a module of dialects/ makes a `Conversion` of one, means.py adds a mean of w, assembly.py builds the
generator and report.py says what was done. listing.py tells what can be converted, projects.py names what cannot.
limits.py bounds the reading. archives.py, torchfiles.py, pickles.py, globals.py and safetensors.py know the
containers and what may be in them; trees.py makes arrays. tables.py has what tables of keys are made of. Nothing in a
file is ever executed.

export.py is the way back, behind `panda-jax export`: a module of dialects/ reads its tables backwards, foreign.py knows
what other code has not, and torchwriter.py writes the files of torch.
"""
