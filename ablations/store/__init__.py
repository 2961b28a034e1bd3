"""The files of a sweep: how they are written and read back.

Planning and training write them, analysis and reporting read them. The two sides share nothing
else, and neither imports the other.
"""
