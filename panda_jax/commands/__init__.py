"""The command line: one file per command, from flags to one call into the library and the final messages.

A command's file has `EXAMPLES`, `define(values)`, which declares its flags, and `run(options, call)`. It has
`ARGUMENTS` if words without a flag are allowed, and `CONFIGURATION` if it takes --config, with `LISTS` if keys may have
several values there.
program.py finds the command, prints --help and turns errors into sentences; parser.py reads the words. Flags that
several commands have are in options.py. requests.py and discover_requests.py convert flags to values, and sentences.py
prints the written files. compilation.py keeps compiled programs between commands. Large modules are imported when a
command runs, so that --help is quick.
"""
