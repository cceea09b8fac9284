"""Who was where and when, from the database that ingest fills."""
