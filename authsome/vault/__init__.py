"""The vault: everything that outlives the daemon, in one SQLite file; the only part that speaks SQL."""
