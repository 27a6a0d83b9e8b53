"""Ten real tables as their packages have them, through `evergreen new --yes` and on, without a line being edited."""
