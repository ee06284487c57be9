"""The validated study: frozen dataclasses with one documented field per setting."""
