SELECT reading, read_at AS event_time, hour, isig, glucose, glucose_15_min_before, glucose_30_min_before
FROM glucose
