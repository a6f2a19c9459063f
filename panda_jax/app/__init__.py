"""The explorer: a page on which parts are clicked, edits tried, stacked and turned up, `panda-jax app`.

page/ has the files for the browser: HTML, CSS and JavaScript modules, without a build step. The page keeps the user's
choice. choices.py checks a choice, engine.py makes its pictures, film.py finds edits to try, saves.py writes files, and
answers.py makes the answer to each request. None of these needs a browser or a server. server.py serves the page.
guard.py limits who may send requests and how many, messages.py limits the content of a request, and connections.py
limits its time. fits.py and shelf.py hold what several users share.
"""
