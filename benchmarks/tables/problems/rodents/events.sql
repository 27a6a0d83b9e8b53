SELECT record_id, caught_on AS event_time, plot, plot_type, sex, hindfoot_length, weight AS grams, month
FROM rodents
