"""Bad files of many kinds, and what an ingest makes of each: all rows accounted for, or a message that names the file.

`python -m benchmarks.bad_files` runs them all. Each kind is read by a process of its own, whose memory and CPU seconds
are measured.
"""
