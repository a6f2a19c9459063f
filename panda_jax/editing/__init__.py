"""What is done to feature maps with factors, in arrays. The only files here are zoos of edits and drawn masks.

edits.py has edits as values, masks.py where they act, editor.py runs them through a generator. zoo.py keeps them by
name, annotations.py reads those of the paper's authors. removal.py, refine.py and saliency.py are the paper's other
uses of factors.
"""
