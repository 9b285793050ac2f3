"""Long and crowded runs, which `make test` has no time for: `make soak`."""
