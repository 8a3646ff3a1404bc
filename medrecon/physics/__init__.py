"""X-rays between the tube and the line integral: counts, spectra, detectors, alignment."""
