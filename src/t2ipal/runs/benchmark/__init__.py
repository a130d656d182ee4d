"""Published settings as one command each: a configuration, its protocol, its record and table."""
