"""Grading what students hand in; `python -m factory.grade FOLDER` is the command.

`copies` reads zips and folders, `cells` finds the exercises' cells in them, `suspicion` reads a cell before it runs,
`judging` runs it with our check, `walls` is the process in which all that is a student's is read and run.
Nothing of a copy is unpacked, and nothing of it runs in the process that writes the grades.
Left out on purpose: marks, and finding who copied from whom. A verdict is what our check says.
"""
