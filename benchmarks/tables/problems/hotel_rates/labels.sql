SELECT booking, arrives_on AS event_time, label_known AS known_time, label
FROM hotel_rates
WHERE label IS NOT NULL
