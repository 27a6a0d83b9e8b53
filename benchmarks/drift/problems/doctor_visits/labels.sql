SELECT
    format('{}/{}', zper, year) AS person_year,
    TIMESTAMPTZ '2020-01-06 12:00:00+00' + to_days(CAST((row_number() OVER (ORDER BY hash(zper * 10 + year)) - 1) // 143 AS INTEGER))
        AS event_time,
    TIMESTAMPTZ '2020-01-06 12:00:00+00' + to_days(CAST((row_number() OVER (ORDER BY hash(zper * 10 + year)) - 1) // 143 AS INTEGER))
        AS known_time,
    CAST(mdvis >= 3 AS TINYINT) AS label
FROM persons
WHERE mdvis IS NOT NULL
