-- One row per airport and hour. Known an hour before: that hour's readings but the temperature.
SELECT
    w.origin || strftime(w.time_hour, '/%Y-%m-%dT%H') AS reading_id,
    w.time_hour AS event_time,
    w.time_hour - INTERVAL 1 HOUR AS cutoff_time,
    w.origin,
    w.hour,
    b.dewp,
    b.humid,
    b.wind_dir,
    b.wind_speed,
    b.visib,
    b.pressure
FROM weather AS w
JOIN weather AS b ON b.origin = w.origin AND b.time_hour = w.time_hour - INTERVAL 1 HOUR
