SELECT stop_id, stopped_at AS event_time, problem, race_before, race, gender, lat, long, precinct, neighborhood
FROM stops
