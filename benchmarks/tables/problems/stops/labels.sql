SELECT stop_id, stopped_at AS event_time, label_known AS known_time, label
FROM stops
WHERE label IS NOT NULL
