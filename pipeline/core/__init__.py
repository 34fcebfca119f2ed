"""Pure rules: matching, signing, outcomes, the retry schedule, circuits, offsets, the search grammar.

No I/O, no clocks, no threads: time and randomness are arguments. Uses `schemas` only.
Start reading in `outcome.py` (what an answer means) and `offsets.py` (what may be committed).
"""
