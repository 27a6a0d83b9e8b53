SELECT fix, read_at AS event_time, label_known AS known_time, label
FROM storms
WHERE label IS NOT NULL
