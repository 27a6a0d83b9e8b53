SELECT flight_id, departs_at AS event_time, label_known AS known_time, label
FROM flights
WHERE label IS NOT NULL
