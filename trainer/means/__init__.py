"""Class means: prototypes that hold up, calibrated thresholds, editing, import and export."""
