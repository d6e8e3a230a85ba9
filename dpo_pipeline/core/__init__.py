"""Pure values and decisions. No Dagster, torch, network, disk or clock in here."""
