"""Weights files: which kind one is, its tensors under the authors' names, and what a user has of them.

Importing it imports no torch: that comes with the module that opens a file.
"""
