"""The HTTP API, one file for each thing that people do. A handler translates; `service` does the work."""
