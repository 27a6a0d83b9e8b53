-- One row per scheduled flight. Everything here is known at 04:00 New York time on the day of the flight:
-- the schedule, the plane, and the weather at the scheduled hour (an observation that stands in for its forecast).
-- What happens later (dep_time, dep_delay, air_time) stays out: dep_delay alone would "predict" at an AUC of 0.9.
SELECT
    format('{:04d}-{:02d}-{:02d}/{}{}/{}/{:04d}', f.year, f.month, f.day, f.carrier, f.flight, f.origin, f.sched_dep_time)
        AS flight_id,
    f.time_hour + to_minutes(f.minute) AS event_time,
    -- 04:00 of the day; a flight before 04:00 is predicted at 04:00 of the day before.
    (make_timestamp(f.year, f.month, f.day, 4, 0, 0) - to_days(CAST(f.sched_dep_time < 400 AS INTEGER)))
        AT TIME ZONE 'America/New_York' AS cutoff_time,
    f.carrier,
    f.origin,
    f.dest,
    f.distance,
    f.sched_dep_time // 100 + (f.sched_dep_time % 100) / 60 AS sched_dep_hour,
    f.sched_arr_time // 100 + (f.sched_arr_time % 100) / 60 AS sched_arr_hour,
    isodow(make_date(f.year, f.month, f.day)) AS weekday,
    f.year - p.year AS plane_age,
    p.seats,
    p.manufacturer,
    w.temp,
    w.dewp,
    w.humid,
    w.wind_speed,
    w.precip,
    w.visib,
    w.pressure
FROM flights AS f
LEFT JOIN planes AS p USING (tailnum)
LEFT JOIN weather AS w ON w.origin = f.origin AND w.time_hour = f.time_hour
