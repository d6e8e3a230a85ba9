"""What Dagster does by itself: jobs, the sensors and schedules that ask for them, and the tidying of their records."""
