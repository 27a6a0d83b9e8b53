SELECT slot, slot_start AS event_time, minute_of_day, weekday, day_of_month, calls_a_business_week_before
FROM bank_calls
