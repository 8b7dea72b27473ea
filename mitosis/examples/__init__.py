"""Example programs that are shipped with the package, and the campaign that `mito demo` runs.

`aimd` is a program for workers: the standard library only, so that it runs wherever Python does.
`campaign` describes the sweep over it and judges the results; it does no I/O. Nothing here imports
another room of the package, only the error tree.
"""
