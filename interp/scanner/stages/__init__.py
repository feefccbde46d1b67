"""The stages of a scan, one file each; every file ends in a `STAGE`.

May import the scanner's other rooms, `scan` and `plan`; `pipeline` alone runs them.
"""
