SELECT strike, struck_on AS event_time, label_known AS known_time, label
FROM bird_strikes
WHERE label IS NOT NULL
