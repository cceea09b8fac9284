"""Class means from and to devices: pushed over the broker, pulled, and compared."""
