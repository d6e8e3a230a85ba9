"""Pages and plots that a person reads: values of `core` in, HTML and pictures out. Nothing is decided here."""
