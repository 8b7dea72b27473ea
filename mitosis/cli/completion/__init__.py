"""Completion for bash, zsh, fish and the interactive mode.

A person waits for every answer, so this room reads files only: a tree of all commands, and the
values that a process in the background has asked the platform for (background.py). What it answers
from is at most minutes old; what it does not know yet is there at the next TAB.

`engine.py` finds the candidates, `shells.py` speaks with the shells, `store.py` keeps the files,
`tree.py` and `background.py` fill them.
"""
