"""Merges the branches of parallel work by code, and says what a merge or a branch has broken.

Works on a bare repository and object ids with git's plumbing: there is no work tree, and nothing of the
repository is run.
"""
