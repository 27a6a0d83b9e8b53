-- One row per airport and hour in which flights are due to leave; the weather is that of the hour before.
WITH due AS (
    SELECT origin, time_hour, count(*) AS flights, count(DISTINCT carrier) AS carriers, count_if(distance >= 1000) AS long_flights
    FROM flights
    GROUP BY origin, time_hour
), observed AS (
    -- When clocks are set back, the package has an hour twice.
    SELECT origin, time_hour, any_value(COLUMNS(['temp', 'humid', 'wind_speed', 'precip', 'visib']))
    FROM weather
    GROUP BY origin, time_hour
)
SELECT
    due.origin || '-' || strftime(due.time_hour AT TIME ZONE 'UTC', '%Y%m%dT%HZ') AS airport_hour,
    due.time_hour AS event_time,
    due.origin, flights, carriers, long_flights, temp, humid, wind_speed, precip, visib
FROM due
LEFT JOIN observed ON observed.origin = due.origin AND observed.time_hour = due.time_hour - INTERVAL 1 HOUR
