SELECT fix, read_at AS event_time, storm, lat, long, status, wind, pressure, month, wind_6_hours_before, lat_6_hours_before, long_6_hours_before
FROM storms
