"""The virtual file system: mounts, dentries, inodes and open file descriptions, under Linux's names
for them.
"""
