"""The explorer: a page on which parts are clicked, edits tried, stacked and turned up, `panda-jax app`.

page/ is what the browser runs: no more than HTML, CSS and JavaScript modules as they stand there, which hold all that a
user has chosen. choices.py is that as values, engine.py turns it into pictures, film.py into edits to try, saves.py
writes it, and answers.py says what each request is answered with. None of these needs a browser or a server. server.py
serves them: guard.py says to whom and how much, messages.py what may be in a request, connections.py how long one may
take; fits.py and shelf.py hold what several users share.
"""
