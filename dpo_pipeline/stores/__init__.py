"""The only code that writes to disk or to a server. No Dagster and no torch in here."""
