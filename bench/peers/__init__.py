"""What a user would pick instead, each in a process of its own, in an environment of its own.

The modules named after a peer run there: they import nothing of this project but `say` and
`floor`.
"""
