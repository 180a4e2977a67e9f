"""What is recorded for the lessons, a file each: runs that are too long for a lesson, and what the README's picture shows.

`lesson_NN.py` may hold RECORDINGS, {name: (function, file)}, which `python -m factory.record` calls as
`function(seeds, path)`, and SHOWN, {metric of the lesson's scoreboard: words}, for `python -m factory.results`. Both
find the files by their names; nothing lists them.
"""
