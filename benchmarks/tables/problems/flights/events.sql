SELECT flight_id, departs_at AS event_time, destination, distance
FROM flights
