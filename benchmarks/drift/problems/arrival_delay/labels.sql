-- Flights that were diverted have no arrival delay, and never get a label.
SELECT
    format('{:04d}-{:02d}-{:02d}/{}{}/{:04d}', f.year, f.month, f.day, f.carrier, f.flight, f.sched_dep_time)
        AS flight_id,
    f.time_hour + to_minutes(CAST(f.minute + f.dep_delay AS INTEGER)) AS event_time,
    f.time_hour + to_minutes(CAST(f.minute + f.dep_delay + f.air_time + 30 AS INTEGER)) AS known_time,
    CAST(f.arr_delay AS DOUBLE) AS label
FROM flights AS f
WHERE f.carrier = 'UA' AND f.origin = 'EWR' AND f.arr_delay IS NOT NULL
