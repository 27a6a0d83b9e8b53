SELECT test_id, tested_on AS event_time, label_known AS known_time, label
FROM covid_tests
WHERE label IS NOT NULL
