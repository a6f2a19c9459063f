"""What is done to feature maps with factors, in arrays: no files, no pictures.

edits.py has edits as values, masks.py where they act, editor.py runs them through a generator, zoo.py keeps them by
name; removal.py, refine.py and saliency.py are the paper's other uses of factors. It imports the solver's block and
generators.
"""
