"""The command line. Commands parse, call `local` and print; they decide nothing."""
