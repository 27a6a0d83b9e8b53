-- One row per person and year of the RAND health insurance experiment, in an order of no meaning: nothing ever shifts.
SELECT
    format('{}/{}', zper, year) AS person_year,
    TIMESTAMPTZ '2020-01-06 12:00:00+00' + to_days(CAST((row_number() OVER (ORDER BY hash(zper * 10 + year)) - 1) // 143 AS INTEGER))
        AS event_time,
    TIMESTAMPTZ '2020-01-06 11:00:00+00' + to_days(CAST((row_number() OVER (ORDER BY hash(zper * 10 + year)) - 1) // 143 AS INTEGER))
        AS cutoff_time,
    coins,
    income,
    xage,
    female,
    educdec,
    num,
    mhi,
    disea,
    physlm,
    ghindx,
    CASE site WHEN 1 THEN 'Dayton' WHEN 2 THEN 'Seattle' WHEN 3 THEN 'Fitchburg' WHEN 4 THEN 'Franklin'
        WHEN 5 THEN 'Charleston' ELSE 'Georgetown' END AS site
FROM persons
