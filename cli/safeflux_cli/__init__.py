"""The command line of SafeFlux: one file per command, each imported only when it is called."""
