-- One statement per flight that arrived: was it 15 minutes late or more, and when did we learn it?
-- Cancelled and diverted flights never arrive and so never get a label.
-- Taxi times are not in the data; half an hour stands in for both.
SELECT
    format('{:04d}-{:02d}-{:02d}/{}{}/{}/{:04d}', f.year, f.month, f.day, f.carrier, f.flight, f.origin, f.sched_dep_time)
        AS flight_id,
    f.time_hour + to_minutes(f.minute) AS event_time,
    f.time_hour + to_minutes(f.minute) + to_minutes(CAST(f.dep_delay + f.air_time + 30 AS INTEGER)) AS known_time,
    CAST(f.arr_delay >= 15 AS TINYINT) AS label
FROM flights AS f
WHERE f.arr_delay IS NOT NULL
