SELECT
    origin || strftime(time_hour, '/%Y-%m-%dT%H') AS reading_id,
    time_hour AS event_time,
    time_hour + INTERVAL 1 HOUR AS known_time,
    temp AS label
FROM weather
WHERE temp IS NOT NULL
