"""Fleet tools: what an operator runs against barn devices."""
