"""The command line: one file per command, from flags to one call into the library and what is said at the end.

A command's file has `EXAMPLES` (how it is called), `define(values)`, which declares the flags that it reads, and
`run(options, call)`. program.py finds the command and turns errors into sentences, parser.py reads the words. Flags
that several commands have are in options.py; requests.py makes values of what was typed. Files and pictures are made in
results/, catalog/ and compare/. What is large is imported when a command runs, so that --help is quick.
"""
