"""Running a program: spawn, capture of its output, and the stop of a whole process tree."""
