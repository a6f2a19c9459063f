"""Uses of factors on feature maps, in arrays. The only files read or written here are zoos of edits and drawn masks.

edits.py defines edits, masks.py defines where they act, editor.py runs them through a generator. zoo.py keeps edits by
name, annotations.py reads those of the paper's authors. removal.py, refine.py and saliency.py are the paper's other
uses of factors.
"""
