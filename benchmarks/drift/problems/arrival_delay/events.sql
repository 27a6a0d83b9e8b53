-- One row per flight of one airline from one airport that has left: its arrival is predicted when it takes off.
SELECT
    format('{:04d}-{:02d}-{:02d}/{}{}/{:04d}', f.year, f.month, f.day, f.carrier, f.flight, f.sched_dep_time)
        AS flight_id,
    f.time_hour + to_minutes(CAST(f.minute + f.dep_delay AS INTEGER)) AS event_time,
    f.dep_delay,
    f.distance,
    f.sched_dep_time // 100 + (f.sched_dep_time % 100) / 60 AS sched_dep_hour,
    isodow(make_date(f.year, f.month, f.day)) AS weekday,
    f.dest,
    w.temp,
    w.wind_dir,
    w.wind_speed,
    w.visib,
    w.pressure
FROM flights AS f
LEFT JOIN weather AS w ON w.origin = f.origin AND w.time_hour = f.time_hour
WHERE f.carrier = 'UA' AND f.origin = 'EWR' AND f.dep_delay IS NOT NULL
