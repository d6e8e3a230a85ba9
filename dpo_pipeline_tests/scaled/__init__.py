"""Past one machine: the same tests of behaviour, on the engines that a setting moves each part to."""
