-- Known when the last of the hour's flights has left; a cancelled one never does.
SELECT
    origin || '-' || strftime(time_hour AT TIME ZONE 'UTC', '%Y%m%dT%HZ') AS airport_hour,
    time_hour AS event_time,
    time_hour + INTERVAL 1 HOUR + to_minutes(greatest(max(dep_delay), 0)) AS known_time,
    avg(dep_delay) AS label
FROM flights
WHERE dep_delay IS NOT NULL
GROUP BY origin, time_hour
