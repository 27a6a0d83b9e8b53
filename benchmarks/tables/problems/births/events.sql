SELECT state_day, born_on AS event_time, state, weekday, month, births_a_week_before, births_a_year_before
FROM births
