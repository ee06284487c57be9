"""What the made-up study consists of, for the modules that make its tables."""

STEPS = (0, 4, 16, 64, 128, 256, 512, 1024, 1408, 2000)
ADDED = (1408,)
N_FEATURES = 60
LAYER = 2
HOSTILE = "</script><img src=x onerror=alert(1)>"
