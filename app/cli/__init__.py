"""The commands `eqcompile` and `eqsim`. Nothing heavy is imported before a command needs it."""
