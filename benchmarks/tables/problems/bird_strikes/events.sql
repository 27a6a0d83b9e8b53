SELECT strike, struck_on AS event_time, operator, aircraft, mass_class, engines, time_of_day, state, height, speed, sky, species, birds_struck
FROM bird_strikes
