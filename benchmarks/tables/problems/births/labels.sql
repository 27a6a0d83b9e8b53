SELECT state_day, born_on AS event_time, label_known AS known_time, label
FROM births
WHERE label IS NOT NULL
