SELECT test_id, tested_on AS event_time, gender, age, clinic_name, demo_group, drive_through, payor_group, patient_class
FROM covid_tests
