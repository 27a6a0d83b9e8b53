SELECT reading, read_at AS event_time, label_known AS known_time, label
FROM glucose
WHERE label IS NOT NULL
