"""The supervisor behind `mito up`: embedded servers and our own processes under one roof."""
