"""Plants backdoors offline, driven by interp's measurements. Never imported by the app."""
