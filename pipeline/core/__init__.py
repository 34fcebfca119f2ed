"""Pure rules: matching, signing, outcome, retry schedule, offsets, search grammar. No I/O, no clocks."""
