"""The broker kit: certificates, rules and configuration for a mosquitto that knows everybody."""
