"""The explorer: a page on which parts are clicked, appearances chosen and strengths slid, `panda-jax app`.

choices.py is what a user has chosen, engine.py turns it into pictures, saves.py writes it, panels.py makes HTML of
pictures, controls.py says what each control does, fits.py keeps these for each fit. None of these needs a browser or
Gradio. page.py is the page of Gradio, server.py serves it: guard.py says to whom and how much, messages.py what may be
in a request, connections.py how long one may take.
"""
