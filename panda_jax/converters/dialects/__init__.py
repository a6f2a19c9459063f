"""Dialects: whose code wrote a checkpoint, and so what its keys are called.

A `Dialect` (base.py) has a test that recognises it, a function that makes a `Conversion` of a checkpoint, by tables
from keys to places in our generator, and its line of `convert --list`. The file of a family lists its dialects in
`DIALECTS`, and in `EXPORTS` the functions that read the tables backwards. genforce.py, tensorflow.py, snapshots.py and
spectral.py are what these files share over families. The tables of StyleGAN2's dialects are made by stylegan2_tables.py
from a `Layout`. A new dialect is a new file here, an entry in the `DIALECTS` of its family, and one in its `EXPORTS`
where it goes out again.
"""

# In the order in which their files are looked for. Here, since --help tells them before much is imported.
FAMILIES = 'progan', 'stylegan', 'stylegan2', 'stylegan_xl', 'stylegan3', 'biggan', 'r3gan', 'fastgan'

# What `panda-jax export` writes; the file of a family has an `EXPORTS` for those of them that its networks can take.
FORMATS = 'safetensors', 'rosinality', 'nvlabs', 'genforce'
