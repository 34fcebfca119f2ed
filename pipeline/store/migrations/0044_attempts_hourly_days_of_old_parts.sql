-- In the background. Until then, the hours of old parts are read as before.
ALTER TABLE attempts_hourly
    MATERIALIZE PROJECTION days
