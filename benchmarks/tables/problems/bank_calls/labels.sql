SELECT slot, slot_start AS event_time, label_known AS known_time, label
FROM bank_calls
WHERE label IS NOT NULL
