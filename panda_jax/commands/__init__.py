"""The command line: flags in, one call into the library, and what to say at the end.

parser.py reads words, requests.py and discovery.py make values of what was typed.
"""
