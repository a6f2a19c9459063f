"""The command line: one file per command, from flags to one call into the library and what is said at the end.

A command's file has `EXAMPLES` (how it is called), `define(values)`, which declares the flags that it reads, and
`run(options, call)`; `ARGUMENTS` if words without a flag are allowed, and `CONFIGURATION` if it takes --config, with
`LISTS` if keys may have several values there.
program.py finds the command, prints --help and turns errors into sentences; parser.py reads the words. Flags that
several commands have are in options.py. requests.py and discover_requests.py make values of what was typed, and
sentences.py prints what was written. compilation.py keeps compiled programs between commands. What is large is imported
when a command runs, so that --help is quick.
"""
