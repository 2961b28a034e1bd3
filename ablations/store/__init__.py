"""What a sweep leaves on disk: its files, who writes them, and how they are read back.

This is the narrow place of the design. Planning and training write here, analysis and reporting
read here, and neither side imports the other.
"""
