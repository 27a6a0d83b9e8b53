SELECT record_id, caught_on AS event_time, label_known AS known_time, label
FROM rodents
WHERE label IS NOT NULL
