"""The roles: fan-out, retry and recorder, one file each; their assembly; the command line.

The only place that builds things: `wiring.py` builds the parts from the settings, `run.py` starts and stops them in order. May
use everything in `pipeline`. Start reading in `fanout.py`, then `run.py`.
"""
